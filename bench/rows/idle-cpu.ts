import { setTimeout as pause } from 'node:timers/promises';

import { openBullMQ } from '../contenders/bullmq.js';
import { eventController, nestRedis, openNestApp, redisStreams } from '../contenders/nest-app.js';
import type { ChosenTransport } from '../contenders/nest-app.js';
import { connectionOf, keyOf } from '../contenders/setting.js';
import { RedisStreamer } from '../library.js';
import type { Entrant, Row, Setting } from '../row.js';

const MINUTE = 60_000;
const SHORTEST = 3_000;
/** Milliseconds until connecting and start-up are over. */
const SETTLING = 2_000;

const CONSUMER = 'a load-balanced consumer, defaults';
const SERVER = 'a Nest server, defaults';

/** Opens a consumer that waits for messages; none are sent. */
function idling(name: string, listen: (setting: Setting) => Promise<() => Promise<void>>): Entrant {
  return {
    name,
    async open(setting) {
      const close = await listen(setting);
      const time = Math.max(SHORTEST, MINUTE * setting.scale);
      return {
        reset: () => pause(SETTLING),
        async work() {
          await pause(time);
          return {};
        },
        close,
      };
    },
  };
}

const nestServer =
  (topic: string, transport: ChosenTransport) =>
  async (setting: Setting): Promise<() => Promise<void>> => {
    const controller = eventController(keyOf(setting, topic), () => undefined);
    const { close } = await openNestApp(setting, transport, controller);
    return close;
  };

async function consumer(setting: Setting): Promise<() => Promise<void>> {
  const streamer = await RedisStreamer.connect(connectionOf(setting));
  const listening = await streamer.createConsumer(keyOf(setting, 'idle'), {
    mode: 'load-balanced',
    group: 'idle',
    mkStream: true,
  });
  const ended = listening.next().catch(() => undefined);
  return async () => {
    await streamer.disconnect();
    await ended;
  };
}

async function bullMQWorker(setting: Setting): Promise<() => Promise<void>> {
  const { queue, worker } = openBullMQ(setting, 'idle', 1, () => undefined);
  return async () => {
    await worker.close();
    await queue.close();
  };
}

export const row: Row = {
  title: 'CPU of a process that waits for messages',
  note: `One minute without a message, all at the same time. Two seconds pass between the connection and the measurement. The Nest
applications include a connected client.`,
  metrics: ['cpuShare'],
  rounds: 1,
  warmUps: 0,
  isParallel: true,
  entrants: [
    idling(CONSUMER, consumer),
    idling(SERVER, nestServer('streams', redisStreams())),
    { ...idling("Nest's Redis transport", nestServer('pub-sub', nestRedis)), isPeer: true },
    { ...idling('BullMQ worker', bullMQWorker), isPeer: true },
  ],
  targets: [
    { entrant: CONSUMER, metric: 'cpuShare', atMost: 0.5 },
    { entrant: SERVER, metric: 'cpuShare', atMost: 0.5 },
  ],
};
