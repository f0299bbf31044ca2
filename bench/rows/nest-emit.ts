import type { Cluster, Redis } from 'ioredis';
import { lastValueFrom } from 'rxjs';

import { openBullMQ } from '../contenders/bullmq.js';
import { GROUP, eventController, nestRedis, openNestApp, redisStreams } from '../contenders/nest-app.js';
import type { ChosenTransport } from '../contenders/nest-app.js';
import { keyOf, openClient } from '../contenders/setting.js';
import { Counter, JSON_PAYLOAD, SERVICE_WARM_UPS, withInFlight } from '../load.js';
import type { Entrant, Row } from '../row.js';

/** In a shorter round V8 only begins to grow the heap. */
const EVENTS = 160_000;
const JOBS = 10_000;
const IN_FLIGHT = 1_000;
const POLL = 20;

const NEST_REDIS = "Nest's Redis transport";
const DEFAULTS = 'nestjs-redis-streams, defaults';
const TUNED = 'nestjs-redis-streams, 200 at a time';

interface Load {
  /** Events until all of them must have been handled. */
  readonly events: number;
  /** How many times in a round, 1 by default. */
  readonly times?: number;
  /** Emitted and not yet confirmed. */
  readonly inFlight: number;
}

/** `emit`, up to the return of the `@EventPattern` handler. */
export function emitting(
  name: string,
  stream: string,
  transport: ChosenTransport,
  { events, inFlight, times = 1 }: Load = { events: EVENTS, inFlight: IN_FLIGHT },
): Entrant {
  return {
    name,
    async open(setting) {
      const counter = new Counter();
      const topic = keyOf(setting, stream);
      const { client, close } = await openNestApp(setting, transport, eventController(topic, counter.count));
      const redis = openClient(setting);
      const messages = events * setting.scale;
      const emit = (): Promise<unknown> =>
        lastValueFrom(client.emit<unknown>(topic, JSON_PAYLOAD), { defaultValue: undefined });
      return {
        reset: () => untilAcknowledged(redis, topic),
        async work() {
          for (let time = 0; time < times; time += 1) {
            const handled = counter.expect(messages);
            await withInFlight(messages, inFlight, emit);
            await handled;
          }
          return { messages: times * messages };
        },
        async close() {
          await close();
          await redis.quit();
        },
      };
    },
  };
}

/** Acknowledgements are sent in batches; the last of them must not fall into the round of the next contender. */
async function untilAcknowledged(redis: Redis | Cluster, topic: string): Promise<void> {
  if (!(await redis.exists(topic))) return;
  for (;;) {
    const [pending] = (await redis.xpending(topic, GROUP)) as [number];
    if (pending === 0) break;
    await new Promise((resolve) => setTimeout(resolve, POLL));
  }
  await redis.xtrim(topic, 'MAXLEN', 0);
}

const bullMQ: Entrant = {
  name: 'BullMQ add() and worker',
  isPeer: true,
  async open(setting) {
    const counter = new Counter();
    const { queue, worker } = openBullMQ(setting, 'events', 200, counter.count);
    const messages = JOBS * setting.scale;
    return {
      async work() {
        const handled = counter.expect(messages);
        await withInFlight(messages, IN_FLIGHT, () => queue.add('event', JSON_PAYLOAD));
        await handled;
        return { messages };
      },
      async close() {
        await worker.close();
        await queue.close();
      },
    };
  },
};

export const row: Row = {
  title: 'Nest: from emit() to the handler',
  note: `160,000 events of 256 bytes of JSON, client and server in one process, 1,000 emitted and not yet confirmed. Nest's transport
is pub/sub: nothing is stored, acknowledged or sent again. Here each event is stored, handled by a group and acknowledged.
200 at a time means batchSize 200, prefetch 1,000, concurrency 200. BullMQ: 10,000 jobs, 200 at a time.`,
  metrics: ['rate'],
  warmUps: SERVICE_WARM_UPS,
  baseline: NEST_REDIS,
  entrants: [
    { ...emitting(NEST_REDIS, 'pub-sub', nestRedis), isPeer: true },
    emitting(DEFAULTS, 'defaults', redisStreams()),
    emitting(TUNED, 'tuned', redisStreams({ batchSize: 200, prefetch: 1_000, concurrency: 200 })),
    bullMQ,
  ],
  targets: [{ entrant: DEFAULTS, metric: 'rate', atLeast: 2 }],
  goals: [{ entrant: DEFAULTS, metric: 'rate', atLeast: 4 }],
};
