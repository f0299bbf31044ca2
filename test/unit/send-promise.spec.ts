import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { SendPromise } from '../../lib/engine/messages/send-promise.js';
import { SendFailedError } from '../../lib/errors.js';
import type { RedisStreamsError } from '../../lib/errors.js';

const failure = new SendFailedError('s', 'ERR no', undefined, false);

/** Fails a promise; what is reported because nothing observes it. */
async function reportedOf(promise: SendPromise<string>): Promise<RedisStreamsError[]> {
  const reported: RedisStreamsError[] = [];
  promise.failed(failure, (error) => reported.push(error));
  await turn();
  await turn();
  return reported;
}

describe('the promise of a receipt', () => {
  it('resolves with the receipt, however it is observed', async () => {
    const promise = SendPromise.create<string>();
    const seen = [
      promise.then((value) => value),
      Promise.all([promise, Promise.resolve('x')]),
      (async () => promise)(),
    ];
    promise.accepted('1-0');
    expect(await Promise.all(seen)).toEqual(['1-0', ['1-0', 'x'], '1-0']);
    expect(await promise).toBe('1-0');
  });

  it.each<[string, (promise: Promise<string>) => Promise<unknown>]>([
    ['then', (promise) => promise.then(() => undefined)],
    ['catch', (promise) => promise.catch((error: unknown) => Promise.reject(error as Error))],
    ['finally', (promise) => promise.finally(() => undefined)],
    ['await', async (promise) => void (await promise)],
    ['Promise.all', (promise) => Promise.all([promise, Promise.resolve('x')])],
    ['Promise.race', (promise) => Promise.race([promise, new Promise(() => undefined)])],
  ])('rejects with the error itself, which %s sees and nothing reports', async (_, observe) => {
    const promise = SendPromise.create<string>();
    const observed = observe(promise).catch((error: unknown) => error);
    expect(await reportedOf(promise)).toEqual([]);
    expect(await observed).toBe(failure);
  });

  it('reports a failure that nothing observes, once, and is no unhandled rejection', async () => {
    const unhandled: unknown[] = [];
    const note = (error: unknown): void => void unhandled.push(error);
    process.on('unhandledRejection', note);
    try {
      expect(await reportedOf(SendPromise.create<string>())).toEqual([failure]);
      expect(unhandled).toEqual([]);
    } finally {
      process.off('unhandledRejection', note);
    }
  });

  it('an await in the same turn as the failure comes in time', async () => {
    const promise = SendPromise.create<string>();
    const reported = reportedOf(promise);
    await expect(promise).rejects.toBe(failure);
    expect(await reported).toEqual([]);
  });

  it('can still be awaited after its failure was reported', async () => {
    const promise = SendPromise.create<string>();
    expect(await reportedOf(promise)).toEqual([failure]);
    await expect(promise).rejects.toBe(failure);
  });
});
