import { afterEach } from '@jest/globals';

import { until } from './until.js';

/** Sends that go on while something breaks. */
export interface Load {
  /** How many were begun. */
  readonly sent: number;
  /** Waits until so many more were begun. */
  more(count: number): Promise<void>;
  /** Begins no more; resolves when all have an outcome. */
  stop(): Promise<void>;
}

const TURN = 10;

/** Lets a test send all the time, so many a second; what is still going on ends with the test. */
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
      async more(count) {
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
