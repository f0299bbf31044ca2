import { expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { Deferred } from '../../lib/shared/deferred.js';
import { onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** A handler whose runs end when the test releases them. */
class HeldHandler {
  readonly #runs: Array<Deferred<void>> = [];
  #isOpen = false;
  running = 0;
  most = 0;
  handled = 0;

  readonly handle = async (): Promise<void> => {
    const run = withResolvers<void>();
    this.#runs.push(run);
    this.running += 1;
    this.most = Math.max(this.most, this.running);
    if (!this.#isOpen) await run.promise;
    this.running -= 1;
    this.handled += 1;
  };

  releaseOne(): void {
    this.#runs.shift()?.resolve();
  }

  releaseAll(): void {
    for (const run of this.#runs.splice(0)) run.resolve();
  }

  /** From now on no run waits, so that the application can close. */
  open(): void {
    this.#isOpen = true;
    this.releaseAll();
  }
}

async function emitMany(pattern: string, count: number): Promise<void> {
  const numbers = Array.from({ length: count }, (_, index) => index);
  await firstValueFrom(nest.client().emitBatch(pattern, numbers));
}

it.each([1, 3])(
  'concurrency %i: the limit is never exceeded, and the next message starts as soon as a handler ends',
  async (concurrency) => {
    const pattern = uniqueName('limit');
    const handler = new HeldHandler();
    await emitMany(pattern, 20);
    await nest.serve(onEvent(pattern, handler.handle), { concurrency });

    for (let done = 0; done < 20; done += 1) {
      const expected = Math.min(concurrency, 20 - done);
      await until('all places are taken', () => handler.running === expected);
      handler.releaseOne();
      await until('one more is handled', () => handler.handled === done + 1);
    }
    expect(handler.most).toBe(concurrency);
    await nest.untilSettled(pattern);
  },
);

it("the server's limit applies to all of its handlers together", async () => {
  const patterns = [uniqueName('a'), uniqueName('b'), uniqueName('c')];
  const handler = new HeldHandler();
  for (const pattern of patterns) await emitMany(pattern, 5);
  await nest.serve(
    patterns.map((pattern) => onEvent(pattern, handler.handle)),
    { concurrency: 4 },
  );

  await until('all places are taken', () => handler.running === 4);
  await until('the rest is handled', () => {
    handler.releaseAll();
    return handler.handled === 15;
  });
  expect(handler.most).toBe(4);
});

it("a handler's own limit applies to that handler alone", async () => {
  const [narrow, wide] = [uniqueName('narrow'), uniqueName('wide')];
  const [one, many] = [new HeldHandler(), new HeldHandler()];
  for (const pattern of [narrow, wide]) await emitMany(pattern, 10);
  await nest.serve([onEvent(narrow, one.handle, { concurrency: 1 }), onEvent(wide, many.handle)], { concurrency: 5 });

  await until('both limits are reached', () => one.running === 1 && many.running === 5);
  await until('the rest is handled', () => {
    one.releaseAll();
    many.releaseAll();
    return one.handled === 10 && many.handled === 10;
  });
  expect([one.most, many.most]).toEqual([1, 5]);
});

it('buffered and running messages together never exceed the capacity, however long the backlog is', async () => {
  const pattern = uniqueName('backlog');
  const handler = new HeldHandler();
  await emitMany(pattern, 2_000);
  await nest.serve(onEvent(pattern, handler.handle), { concurrency: 4, prefetch: 6, batchSize: 100 });

  let most = 0;
  await until('the handlers have worked for a while', async () => {
    await until('all places are taken', () => handler.running === 4);
    most = Math.max(most, Number((await nest.redis.xpending(pattern, 'test-group'))[0]) - handler.handled);
    handler.releaseAll();
    return handler.handled >= 40;
  });
  // Acknowledgements are sent after handlers end: the entries that are pending and not yet handled are in this process.
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThanOrEqual(10);
  handler.open();
});

it('a slow handler with its own limit does not delay other patterns', async () => {
  const [slow, quick] = [uniqueName('slow'), uniqueName('quick')];
  const handler = new HeldHandler();
  let handled = 0;
  await emitMany(slow, 200);
  await nest.serve([onEvent(slow, handler.handle, { concurrency: 1 }), onEvent(quick, () => (handled += 1))]);

  await until('the slow one is busy', () => handler.running === 1);
  await emitMany(quick, 100);
  await until('all others are handled', () => handled === 100);
  expect(handler.handled).toBe(0);
  handler.open();
});

it('a long backlog of one pattern does not delay another pattern of the same server until it is processed', async () => {
  const [long, short] = [uniqueName('long'), uniqueName('short')];
  let handled = 0;
  let handledBefore = -1;
  await emitMany(long, 2_000);
  await emitMany(short, 1);
  await nest.serve([
    onEvent(long, () => (handled += 1)),
    onEvent(short, () => {
      handledBefore = handled;
    }),
  ]);

  await until('the short one is handled', () => handledBefore >= 0);
  expect(handledBefore).toBeLessThan(200);
  await until('the long one is handled', () => handled === 2_000);
});
