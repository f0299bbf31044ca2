import { describe, expect, it } from '@jest/globals';
import { lastValueFrom } from 'rxjs';

import { KeyHashSharder } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { numbers } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();
const NANOSECONDS = { timestampFormat: 'ns' } as const;
const hasNanoseconds = ({ id }: { id: string }): boolean => id.split('-')[0]?.length === 19;

describe("timestampFormat: 'ns'", () => {
  it('holds for events, their dead letters and a redrive', async () => {
    const stream = uniqueName('ns');
    const seen: number[] = [];
    let isBroken = true;
    await nest.serve(
      onEvent(stream, (n: number) => {
        if (isBroken && n === 2) throw new Error('broken');
        seen.push(n);
      }),
      { ...NANOSECONDS, retry: false, autoClaimInterval: 100, autoClaimIdle: 100 },
    );
    const client = nest.client(NANOSECONDS);
    for (const n of [1, 2, 3]) await lastValueFrom(client.emit(stream, n));
    await until('one is a dead letter', async () => (await nest.redis.xlen(`${stream}.dead`)) === 1);
    await nest.untilSettled(stream);
    expect([...(await nest.entries(stream)), ...(await nest.entries(`${stream}.dead`))].every(hasNanoseconds)).toBe(
      true,
    );
    isBroken = false;
    const manager = await (await nest.connect(NANOSECONDS)).createManager();
    expect(await manager.deadLetters(stream, { since: new Date(Date.now() - 60_000) })).toHaveLength(1);
    expect(await manager.deadLetters(stream, { until: new Date(Date.now() - 60_000) })).toEqual([]);
    expect(await manager.redrive(`${stream}.dead`)).toEqual({ redriven: 1, skipped: 0 });
    await until('it is handled', () => seen.length === 3);
    await nest.untilSettled(stream);
  });

  it('stores a dead letter beside older ones with milliseconds, which a stream cannot mix', async () => {
    const stream = uniqueName('ns');
    await nest.redis.xadd(`${stream}.dead`, '*', 'msg', 'old');
    await nest.serve(
      onEvent(stream, () => {
        throw new Error('broken');
      }),
      { ...NANOSECONDS, retry: false },
    );
    await lastValueFrom(nest.client(NANOSECONDS).emit(stream, 1));
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${stream}.dead`)) === 2);
    expect((await nest.entries(`${stream}.dead`)).some(hasNanoseconds)).toBe(false);
  });

  it('answers requests of clients with either format', async () => {
    const stream = uniqueName('ns');
    await nest.serve(
      onRequest(stream, (n: number) => n + 1),
      NANOSECONDS,
    );
    const fine = nest.client(NANOSECONDS);
    for (const n of [1, 2]) expect(await lastValueFrom(fine.send(stream, n))).toBe(n + 1);
    // Redis gives a message of the other format the time of the last entry, so it is one of many in that nanosecond.
    const coarse = nest.client();
    for (const n of [1, 2]) expect(await lastValueFrom(coarse.send(stream, n))).toBe(n + 1);
  });

  it('answers into a reply stream that has milliseconds, because a server with those has answered before', async () => {
    const [first, second] = [uniqueName('ms'), uniqueName('ns')];
    await nest.serve(onRequest(first, (n: number) => n + 1));
    await nest.serve(
      onRequest(second, (n: number) => n + 2),
      NANOSECONDS,
    );
    const client = nest.client();
    for (const pattern of [first, second, first, second]) {
      expect(await lastValueFrom(client.send(pattern, 1))).toBe(pattern === first ? 2 : 3);
    }
  });
});

describe('shards of a server', () => {
  it.each([4, [0, 1, 2, 3]])('given as %j are read before they exist', async (shards) => {
    const stream = uniqueName('shards');
    const seen: string[] = [];
    const { log } = await nest.serve(
      onEvent(stream, (n: string) => void seen.push(n)),
      { shards },
    );
    const client = nest.client({ sharder: new KeyHashSharder(4) });
    for (const n of numbers(0, 19)) await lastValueFrom(client.emit(stream, n));
    await until('all are handled', () => seen.length === 20);
    expect(await nest.redis.keys(`${stream}*`)).toHaveLength(4);
    expect([...log.errors, ...log.warnings]).toEqual([]);
  });

  it.each([
    [0, {}],
    [[], {}],
    ['4', {}],
    [4, { wildcards: true }],
  ])('refuses %j with %j before any I/O', async (shards, others) => {
    const serving = nest.serve(
      onEvent('orders', () => undefined),
      { shards: shards as number, ...others },
    );
    await expect(serving).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'shards' });
  });
});
