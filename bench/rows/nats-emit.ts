import { redisStreams } from '../contenders/nest-app.js';
import { PAYLOAD, SERVICE_WARM_UPS } from '../load.js';
import { programOf } from '../peers/build.js';
import { PeerProcess } from '../peers/peer-process.js';
import type { Entrant, Row } from '../row.js';
import { emitting } from './nest-emit.js';

const EVENTS = 30_000;
const IN_FLIGHT = 1_000;

/** A Nest application with a nats-server of its own, see bench/peers/nats. */
const jetStream: Entrant = {
  name: 'Nest on NATS JetStream',
  isPeer: true,
  async open({ scale }) {
    const messages = scale * EVENTS;
    const args = [programOf('nats'), messages, IN_FLIGHT, PAYLOAD.length].map(String);
    const program = await PeerProcess.start(process.execPath, args);
    return {
      work: async () => ({ messages, program: await program.round() }),
      close: () => program.close(),
    };
  },
};

export const row: Row = {
  title: 'Beside NATS JetStream: from emit() to the handler',
  note: `30,000 events of 256 bytes of JSON, client and server in one process, 1,000 emitted and not yet confirmed. Both confirm an
event when it is stored, and acknowledge it after its handler. JetStream: Nest 11, the package
@nestjs-plugins/nestjs-nats-jetstream-transport, which awaits each handler before the next event, a stream in memory, a
durable push consumer. The private Redis has no persistence, so neither server writes events to a disk. There is no goal.`,
  metrics: ['rate', 'cpu'],
  needs: 'nats',
  warmUps: SERVICE_WARM_UPS,
  baseline: jetStream.name,
  entrants: [
    jetStream,
    emitting('nestjs-redis-streams, defaults', 'defaults', redisStreams(), { events: EVENTS, inFlight: IN_FLIGHT }),
  ],
  targets: [],
};
