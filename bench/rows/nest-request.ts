import { lastValueFrom } from 'rxjs';

import { echoController, nestRedis, openNestApp, redisStreams } from '../contenders/nest-app.js';
import type { ChosenTransport } from '../contenders/nest-app.js';
import { keyOf } from '../contenders/setting.js';
import { JSON_PAYLOAD, SERVICE_WARM_UPS, withInFlight } from '../load.js';
import type { Entrant, Row } from '../row.js';

const REQUESTS = 20_000;
const IN_FLIGHT = 64;

const NEST_REDIS = "Nest's Redis transport";
const STREAMS = 'nestjs-redis-streams';

/** `send`, up to the answer of the `@MessagePattern` handler. */
function requesting(name: string, stream: string, transport: ChosenTransport): Entrant {
  return {
    name,
    async open(setting) {
      const topic = keyOf(setting, stream);
      const { client, close } = await openNestApp(setting, transport, echoController(topic));
      const messages = REQUESTS * setting.scale;
      const request = async (): Promise<void> => {
        const answer = await lastValueFrom(client.send<string>(topic, JSON_PAYLOAD));
        if (answer !== JSON_PAYLOAD) throw new Error('the answer is not what was asked for');
      };
      return {
        async work() {
          await withInFlight(messages, IN_FLIGHT, request);
          return { messages };
        },
        close,
      };
    },
  };
}

export const row: Row = {
  title: 'Nest: round trips of send()',
  note: `20,000 requests of 256 bytes of JSON and answers of the same size, client and server in one process, 64 in flight, all
options as they are by default.`,
  metrics: ['rate'],
  warmUps: SERVICE_WARM_UPS,
  baseline: NEST_REDIS,
  entrants: [
    { ...requesting(NEST_REDIS, 'pub-sub', nestRedis), isPeer: true },
    requesting(STREAMS, 'streams', redisStreams()),
  ],
  targets: [{ entrant: STREAMS, metric: 'rate', atLeast: 1 }],
  goals: [{ entrant: STREAMS, metric: 'rate', atLeast: 2 }],
};
