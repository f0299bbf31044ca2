import { setImmediate as turn } from 'node:timers/promises';
import { afterEach } from '@jest/globals';

/** The highest value of repeated measurements. */
export interface Sampler {
  readonly most: number;
  readonly samples: number;
  /** Stops measuring; rejects with the error of a failed measurement. */
  stop(): Promise<void>;
}

/** Returns a function that repeats a measurement until it is stopped or the test ends. */
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
