import { describe, expect, it } from '@jest/globals';
import { lastValueFrom } from 'rxjs';

import { RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { HandlerExtras } from '../../lib/index.js';
import { onBatch, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { stays, until } from '../support/until.js';

const nest = useNest();
const PER = 400;

/** When messages were given to a handler, as it notes them. */
class Starts {
  readonly times: number[] = [];
  readonly note = (count = 1): void => {
    for (let index = 0; index < count; index += 1) this.times.push(performance.now());
  };

  get count(): number {
    return this.times.length;
  }

  /** The most that were started in one span of that many milliseconds. */
  mostIn(span: number): number {
    return Math.max(...this.times.map((from) => this.times.filter((at) => at >= from && at < from + span).length));
  }
}

async function send(pattern: string, count: number): Promise<void> {
  await lastValueFrom(
    nest.client().emitBatch(
      pattern,
      Array.from({ length: count }, (_, index) => index),
    ),
  );
}

describe('a handler with rateLimit', () => {
  // The handler notes the time after the start, on a busy machine a good while after it.
  const span = PER / 2;

  it.each<[name: string, extras: HandlerExtras]>([
    ['single messages', {}],
    ['one after the other', { concurrency: 1 }],
    ['ordered', { ordered: true }],
    ['batches', { batch: { size: 10, timeout: 20 } }],
    ['counted for the group', { rateLimit: { max: 5, per: PER, scope: 'group' } }],
  ])('is given no more than max in any span, and everything in the end (%s)', async (_, extras) => {
    const pattern = uniqueName('rate');
    const starts = new Starts();
    const settings: HandlerExtras = { rateLimit: { max: 5, per: PER }, ...extras };
    await send(pattern, 18);
    await nest.serve(
      settings.batch
        ? onBatch(pattern, (payloads) => starts.note(payloads.length), settings)
        : onEvent(pattern, () => starts.note(), settings),
    );
    await until('all are handled', () => starts.count === 18);
    // Two spans of a group may meet, because one begins with its first message.
    expect(starts.mostIn(span)).toBeLessThanOrEqual(settings.rateLimit?.scope === 'group' ? 10 : 5);
    await nest.untilSettled(pattern);
  });

  it('counts the calls for retries', async () => {
    const pattern = uniqueName('rate');
    const starts = new Starts();
    const fail = (): void => {
      starts.note();
      throw new Error('again');
    };
    const retry = { attempts: 3, delay: 10, jitter: 0 };
    await send(pattern, 4);
    await nest.serve(onEvent(pattern, fail, { rateLimit: { max: 3, per: PER }, retry }));
    await until('all are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 4);
    expect(starts.count).toBe(12);
    expect(starts.mostIn(span)).toBe(3);
  });

  it('shares the rate with the other instances when scope is group', async () => {
    const pattern = uniqueName('rate');
    const starts = new Starts();
    const settings: HandlerExtras = { rateLimit: { max: 6, per: PER, scope: 'group' } };
    for (let instance = 0; instance < 3; instance += 1) {
      await nest.serve(
        onEvent(pattern, () => starts.note(), settings),
        { batchSize: 5, prefetch: 10 },
      );
    }
    await send(pattern, 40);
    await until('all are handled', () => starts.count === 40);
    // A span begins with its first message, so that two of them may meet.
    expect(starts.mostIn(span)).toBeLessThanOrEqual(12);
    const [first = 0] = starts.times;
    expect((starts.times.at(-1) ?? 0) - first).toBeGreaterThanOrEqual(6 * span);
    expect(await nest.redis.keys('nrs:*')).toEqual([`nrs:{${pattern}}:rate:${pattern}:${GROUP}`]);
    await until('the counter expires', async () => (await nest.redis.keys('nrs:*')).length === 0);
  });

  it('holds up no other handler of the server, answers requests at that rate, and closes at once', async () => {
    const pattern = uniqueName('rate');
    const starts = new Starts();
    let others = 0;
    const { app, server } = await nest.serve([
      onEvent(pattern, () => starts.note(), { rateLimit: { max: 1, per: 60_000 } }),
      onEvent(`${pattern}.other`, () => (others += 1)),
      onRequest(`${pattern}.ask`, (data) => data, { rateLimit: { max: 2, per: PER } }),
    ]);
    await send(pattern, 10);
    await send(`${pattern}.other`, 10);
    await until('the others are handled', () => others === 10 && starts.count === 1);
    const client = nest.client();
    const begin = performance.now();
    const answers = await Promise.all([1, 2, 3].map((n) => lastValueFrom(client.send(`${pattern}.ask`, n))));
    expect(answers).toEqual([1, 2, 3]);
    expect(performance.now() - begin).toBeGreaterThanOrEqual(span);

    expect((await server.health()).isHealthy).toBe(true);
    const closing = performance.now();
    await app.close();
    expect(performance.now() - closing).toBeLessThan(5_000);
    expect(starts.count).toBe(1);
    // What waited is the next instance's.
    const next = new Starts();
    await nest.serve(onEvent(pattern, () => next.note()));
    await until('they are handled', () => next.count === 9);
  });

  it('starts nothing while the counter cannot be asked, reports that once, and continues', async () => {
    const pattern = uniqueName('rate');
    const starts = new Starts();
    const key = `nrs:{${pattern}}:rate:${pattern}:${GROUP}`;
    await nest.redis.lpush(key, 'not a number');
    const settings: HandlerExtras = { rateLimit: { max: 5, per: PER, scope: 'group' } };
    const { log } = await nest.serve(onEvent(pattern, () => starts.note(), settings));
    await send(pattern, 3);
    await until('it is reported', () => log.errors.length > 0);
    await stays('nothing is started, and one error reported', () => starts.count === 0 && log.errors.length === 1);
    expect(log.errors).toEqual([expect.stringContaining(pattern)]);
    await nest.redis.del(key);
    await until('all are handled', () => starts.count === 3);
  });

  it('waits no longer than per when the clock of the server was set back, or per was longer before', async () => {
    const pattern = uniqueName('rate');
    const starts = new Starts();
    // What a counter looks like then.
    await nest.redis.set(`nrs:{${pattern}}:rate:${pattern}:${GROUP}`, 5, 'PX', 3_600_000);
    await nest.serve(onEvent(pattern, () => starts.note(), { rateLimit: { max: 5, per: PER, scope: 'group' } }));
    await send(pattern, 3);
    await until('all are handled', () => starts.count === 3);
  });

  it('keeps the order of an ordered handler', async () => {
    const pattern = uniqueName('rate');
    const seen: number[] = [];
    const client = nest.client();
    const records = Array.from({ length: 9 }, (_, index) => new RedisStreamsRecordBuilder(index).setKey('k').build());
    await lastValueFrom(client.emitBatch(pattern, records));
    const settings: HandlerExtras = { ordered: true, rateLimit: { max: 3, per: 100, scope: 'group' } };
    await nest.serve(onEvent(pattern, (data) => seen.push(data), settings));
    await until('all are handled', () => seen.length === 9);
    expect(seen).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });

  it.each<[rule: string, extras: HandlerExtras, options?: object]>([
    ['rateLimit.max must be', { rateLimit: { max: 0, per: 100 } }],
    ['rateLimit.per must be', { rateLimit: { max: 1, per: 1 } }],
    ['rateLimit.scope must be', { rateLimit: { max: 1, per: 100, scope: 'cluster' as never } }],
    [
      "rateLimit.scope must be 'instance' without a group",
      { rateLimit: { max: 1, per: 100, scope: 'group' } },
      { mode: 'real-time' },
    ],
    [
      'rateLimit.maximum is not an option here; the options are max, per, scope',
      { rateLimit: { maximum: 1 } as never },
    ],
  ])('is refused before any I/O: %s', async (rule, extras, options = {}) => {
    await expect(
      nest.serve(
        onEvent('orders', () => undefined, extras),
        options,
      ),
    ).rejects.toThrow(rule);
  });
});
