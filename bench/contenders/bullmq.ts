import { Queue, Worker } from 'bullmq';

import { Counter, PAYLOAD, withInFlight } from '../load.js';
import type { Entrant, Setting } from '../row.js';
import { keyOf } from './setting.js';

const MESSAGES = 20_000;
const PAGE = 1_000;
const PAGES_IN_FLIGHT = 4;
const PREFIX = 'bull';

type Add = (queue: Queue, messages: number) => Promise<void>;

/** `addBulk`, a thousand jobs per call. */
export const addBulkToBullMQ = adding('BullMQ addBulk()', (queue, messages) =>
  withInFlight(Math.ceil(messages / PAGE), PAGES_IN_FLIGHT, () => queue.addBulk(jobs(Math.min(messages, PAGE)))),
);

/** `add` for each job, with as many concurrent calls as `addBulk` has jobs. */
export const addToBullMQ = adding('BullMQ add()', (queue, messages) =>
  withInFlight(messages, PAGE * PAGES_IN_FLIGHT, () => queue.add('job', PAYLOAD)),
);

function adding(name: string, add: Add): Entrant {
  return {
    name,
    isPeer: true,
    async open(setting) {
      const queue = openQueue(setting, 'adding');
      const messages = MESSAGES * setting.scale;
      return {
        reset: () => queue.obliterate({ force: true }),
        async work() {
          await add(queue, messages);
          return { messages };
        },
        close: () => queue.close(),
      };
    },
  };
}

/** A worker that starts when the jobs are already in the queue. */
export const workOffBullMQ: Entrant = {
  name: 'BullMQ worker',
  isPeer: true,
  async open(setting) {
    const counter = new Counter();
    const { queue, worker } = openBullMQ(setting, 'working', 100, counter.count);
    const messages = MESSAGES * setting.scale;
    return {
      async reset() {
        await worker.pause();
        for (let added = 0; added < messages; added += PAGE) await queue.addBulk(jobs(Math.min(messages, PAGE)));
      },
      async work() {
        const done = counter.expect(messages);
        await worker.resume();
        await done;
        return { messages };
      },
      async close() {
        await worker.close();
        await queue.close();
      },
    };
  },
};

export interface BullMQ {
  readonly queue: Queue;
  readonly worker: Worker;
}

/** A queue and a worker that remove completed jobs. */
export function openBullMQ(setting: Setting, name: string, concurrency: number, onJob: () => void): BullMQ {
  const queue = openQueue(setting, name);
  const worker = new Worker(name, async () => onJob(), {
    connection: { url: setting.url, maxRetriesPerRequest: null },
    prefix: keyOf(setting, PREFIX),
    concurrency,
  });
  worker.on('error', (error) => console.error(error));
  return { queue, worker };
}

function openQueue(setting: Setting, name: string): Queue {
  return new Queue(name, {
    connection: { url: setting.url },
    prefix: keyOf(setting, PREFIX),
    defaultJobOptions: { removeOnComplete: true },
  });
}

function jobs(count: number): Array<{ name: string; data: string }> {
  return Array.from({ length: count }, () => ({ name: 'job', data: PAYLOAD }));
}
