import { nestRedis, redisStreams } from '../contenders/nest-app.js';
import { SERVICE_WARM_UPS } from '../load.js';
import type { Row } from '../row.js';
import { emitting } from './nest-emit.js';

const EVENTS = 30_000;
const BURSTS = { events: EVENTS, inFlight: EVENTS, times: 4 };

const NEST_REDIS = "Nest's Redis transport";
const STREAMS = 'nestjs-redis-streams, defaults';

export const row: Row = {
  title: 'Nest: a burst of events',
  note: `30,000 events of 256 bytes of JSON, all emitted in one turn of the event loop, client and server in one process: until the
last one has been handled. Four bursts in a round, one after the other.`,
  metrics: ['rate'],
  warmUps: SERVICE_WARM_UPS,
  baseline: NEST_REDIS,
  entrants: [
    { ...emitting(NEST_REDIS, 'pub-sub', nestRedis, BURSTS), isPeer: true },
    emitting(STREAMS, 'streams', redisStreams(), BURSTS),
  ],
  targets: [],
  goals: [{ entrant: STREAMS, metric: 'rate', atLeast: 4 }],
};
