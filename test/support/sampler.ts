import { setImmediate as turn } from 'node:timers/promises';
import { afterEach } from '@jest/globals';

/** The highest of many measurements. */
export interface Sampler {
  readonly most: number;
  readonly samples: number;
  /** Rejects with what a measurement failed with. */
  stop(): Promise<void>;
}

/** Lets a test measure something again and again, until it says stop or ends. */
export function useSampler(): (measure: () => Promise<number> | number) => Sampler {
  const running = new Set<{ isOver: boolean }>();
  afterEach(() => {
    for (const state of running) state.isOver = true;
    running.clear();
  });

  return (measure) => {
    const state = { isOver: false, most: -Infinity, samples: 0 };
    running.add(state);
    const measuring = (async () => {
      while (!state.isOver) {
        state.most = Math.max(state.most, await measure());
        state.samples += 1;
        await turn();
      }
    })();
    measuring.catch(() => undefined);
    return {
      get most() {
        return state.most;
      },
      get samples() {
        return state.samples;
      },
      stop() {
        state.isOver = true;
        return measuring;
      },
    };
  };
}
