import { afterEach } from '@jest/globals';

import { until } from './until.js';

/** Sends that continue while a test causes faults. */
export interface Load {
  /** Number of sends started. */
  readonly sent: number;
  /** Waits until `count` more sends have started. */
  moreSent(count: number): Promise<void>;
  /** Starts no more sends; resolves when all have an outcome. */
  stop(): Promise<void>;
}

/** Most batches of a producer to one node that have no reply. */
export const BATCHES_IN_FLIGHT = 16;

const TURN = 10;

/**
 * Returns a function that sends continuously, `perSecond` messages a second; loads that still run are stopped after the
 * test.
 */
export function useLoad(): (send: (n: number) => Promise<void>, perSecond: number) => Load {
  const running = new Set<NodeJS.Timeout>();
  afterEach(() => {
    for (const timer of running) clearInterval(timer);
    running.clear();
  });

  return (send, perSecond) => {
    const sends: Array<Promise<void>> = [];
    let turns = 0;
    const timer = setInterval(() => {
      turns += 1;
      while (sends.length < (turns * TURN * perSecond) / 1_000) sends.push(send(sends.length));
    }, TURN);
    running.add(timer);
    return {
      get sent() {
        return sends.length;
      },
      async moreSent(count) {
        const goal = sends.length + count;
        await until(`${goal} messages are sent`, () => sends.length >= goal, 30_000);
      },
      async stop() {
        clearInterval(timer);
        running.delete(timer);
        await Promise.all(sends);
      },
    };
  };
}
