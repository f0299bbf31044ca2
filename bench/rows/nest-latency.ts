import { setTimeout as pause } from 'node:timers/promises';
import { lastValueFrom } from 'rxjs';

import { openBullMQ } from '../contenders/bullmq.js';
import { eventController, nestRedis, openNestApp, redisStreams } from '../contenders/nest-app.js';
import type { ChosenTransport } from '../contenders/nest-app.js';
import { keyOf } from '../contenders/setting.js';
import { JSON_PAYLOAD, SERVICE_WARM_UPS } from '../load.js';
import type { Contender, Entrant, Row, Setting } from '../row.js';

const MESSAGES = 400;
/** Milliseconds between two messages, long enough that all work for the previous message has ended. */
const IDLE = 4;

const NEST_REDIS = "Nest's Redis transport";
const STREAMS = 'nestjs-redis-streams';

/** Measures the time from before a send to the call of the handler. */
class Stopwatch {
  #onHandled: () => void = () => undefined;

  readonly handled = (): void => this.#onHandled();

  async time(send: () => Promise<unknown>): Promise<number> {
    const start = performance.now();
    const elapsed = new Promise<number>((resolve) => {
      this.#onHandled = () => resolve(performance.now() - start);
    });
    await send();
    return elapsed;
  }
}

function oneAtATime(
  { scale }: Setting,
  stopwatch: Stopwatch,
  send: () => Promise<unknown>,
  close: () => Promise<void>,
): Contender {
  const messages = MESSAGES * scale;
  return {
    async work() {
      const latencies: number[] = [];
      while (latencies.length < messages) {
        await pause(IDLE);
        latencies.push(await stopwatch.time(send));
      }
      return { messages, latencies };
    },
    close,
  };
}

function emitting(name: string, stream: string, transport: ChosenTransport): Entrant {
  return {
    name,
    async open(setting) {
      const stopwatch = new Stopwatch();
      const topic = keyOf(setting, stream);
      const { client, close } = await openNestApp(setting, transport, eventController(topic, stopwatch.handled));
      const emit = (): Promise<unknown> =>
        lastValueFrom(client.emit<unknown>(topic, JSON_PAYLOAD), { defaultValue: undefined });
      return oneAtATime(setting, stopwatch, emit, close);
    },
  };
}

const bullMQ: Entrant = {
  name: 'BullMQ add() and worker',
  isPeer: true,
  async open(setting) {
    const stopwatch = new Stopwatch();
    const { queue, worker } = openBullMQ(setting, 'latency', 1, stopwatch.handled);
    return oneAtATime(
      setting,
      stopwatch,
      () => queue.add('event', JSON_PAYLOAD),
      async () => {
        await worker.close();
        await queue.close();
      },
    );
  },
};

export const row: Row = {
  title: 'Nest: from an idle server to the first call of its handler',
  note: `400 events a round of 256 bytes of JSON, one at a time with ${IDLE} ms between them, client and server in one process: from
the call of emit() until the @EventPattern handler is called.`,
  metrics: ['p50', 'p99'],
  warmUps: SERVICE_WARM_UPS,
  baseline: NEST_REDIS,
  entrants: [
    { ...emitting(NEST_REDIS, 'pub-sub', nestRedis), isPeer: true },
    emitting(STREAMS, 'streams', redisStreams()),
    bullMQ,
  ],
  targets: [
    { entrant: STREAMS, metric: 'p50', atMost: 1.5 },
    { entrant: STREAMS, metric: 'p99', atMost: 2 },
  ],
  goals: [
    { entrant: STREAMS, metric: 'p50', atMost: 1 },
    { entrant: STREAMS, metric: 'p99', atMost: 0.8 },
  ],
};
