import { describe, expect, it } from '@jest/globals';
import { backoffDelay, limited, pause, untilAborted } from '../../lib/shared/backoff.js';

const policy = { initial: 50, factor: 2, max: 2_000, jitter: 0.3 };

describe('back-off', () => {
  it('grows exponentially up to its maximum', () => {
    const middle = (): number => 0.5;
    const delays = [0, 1, 2, 3, 6, 7, 1_000_000].map((attempt) => backoffDelay(policy, attempt, middle));
    expect(delays).toEqual([50, 50, 100, 200, 1_600, 2_000, 2_000]);
  });

  it('is jittered around itself', () => {
    expect(backoffDelay(policy, 1, () => 0)).toBe(35);
    expect(backoffDelay(policy, 1, () => 1)).toBe(65);
    expect(backoffDelay({ ...policy, jitter: 0 }, 1, () => 1)).toBe(50);
  });

  it('a pause ends early, and without an error, when its signal aborts', async () => {
    const abort = new AbortController();
    const pausing = pause(60_000, abort.signal);
    abort.abort();
    await expect(pausing).resolves.toBeUndefined();
    await expect(pause(60_000, abort.signal)).resolves.toBeUndefined();
  });

  it('a wait for work ends with the reason of its signal, and handles a later failure of the work', async () => {
    const abort = new AbortController();
    const never = new Promise<never>(() => undefined);
    const waiting = untilAborted(never, abort.signal);
    abort.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    await expect(untilAborted(Promise.reject(new Error('late')), abort.signal)).rejects.toThrow('enough');
    await expect(untilAborted(Promise.resolve(1), abort.signal)).rejects.toThrow('enough');
    await expect(untilAborted(Promise.resolve(1), new AbortController().signal)).resolves.toBe(1);
  });

  it('work with a limit sees it after the time, or when its signal aborts', async () => {
    const never = new AbortController().signal;
    const reason = (limit: AbortSignal): Promise<unknown> =>
      new Promise((resolve) => limit.addEventListener('abort', () => resolve(limit.reason)));
    await expect(limited(1, never, reason)).resolves.toMatchObject({ name: 'TimeoutError' });
    const abort = new AbortController();
    const ended = limited(60_000, abort.signal, reason);
    abort.abort('enough');
    await expect(ended).resolves.toBe('enough');
    await expect(limited(60_000, abort.signal, async (limit) => limit.aborted)).resolves.toBe(true);
    await expect(limited(60_000, never, async () => 1)).resolves.toBe(1);
  });
});
