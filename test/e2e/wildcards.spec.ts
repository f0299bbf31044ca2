import { describe, expect, it } from '@jest/globals';
import type { Type } from '@nestjs/common';
import { lastValueFrom } from 'rxjs';

import { RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { HandlerExtras, RedisStreamsContext, ServerRedisStreamsOptions } from '../../lib/index.js';
import { setUser } from '../support/acl.js';
import { cutConnections } from '../support/connections.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { RedisCluster } from '../support/redis-cluster.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();
const WILDCARDS: Partial<ServerRedisStreamsOptions> = { wildcards: { interval: 100 } };

/** A controller that notes pattern, stream and payload of each message. */
function noting(pattern: string | string[], seen: string[], extras: HandlerExtras = {}): Type {
  return onEvent(
    pattern,
    (n: unknown, context: RedisStreamsContext) =>
      void seen.push(`${context.getPattern()} ${context.getStream()} ${String(n)}`),
    extras,
  );
}

/** Waits until the server has gone through all keys at least once more. */
async function untilLookedTwice(seen: string[], root: string): Promise<void> {
  for (let round = 0; round < 2; round += 1) {
    const probe = `${root}.probe.${uniqueName('p')}`;
    await nest.emit(probe, 'probe');
    await until('the probe is found', () => seen.some((line) => line.includes(probe)));
  }
}

const withoutProbes = (seen: readonly string[]): string[] => seen.filter((line) => !line.includes('.probe.')).sort();

describe('a pattern with a wildcard', () => {
  it('reads the streams that exist, and those that appear later from their beginning; the context tells both', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await nest.emit(`${root}.created`, 1);
    await nest.emit(root, 'not matched');
    const { server, log } = await nest.serve(noting(`${root}.>`, seen), WILDCARDS);
    expect(log.messages[0]).toContain(`'${root}.>' (1 stream now, 1 event handler`);
    expect(log.messages[0]).toMatch(/^Reading 1 stream /);
    await nest.emit(`${root}.eu.paid`, 2);
    await nest.emit(`${root}.eu.paid`, 3);
    await until('all are handled', () => seen.length === 3);
    expect([...seen].sort()).toEqual([
      `${root}.> ${root}.created 1`,
      `${root}.> ${root}.eu.paid 2`,
      `${root}.> ${root}.eu.paid 3`,
    ]);
    expect(log.messages).toContain(`Found, and read from now on: '${root}.eu.paid'`);
    for (const stream of ['created', 'eu.paid']) await nest.untilSettled(`${root}.${stream}`);
    expect((await server.health()).isHealthy).toBe(true);
    expect([...log.errors, ...log.warnings]).toEqual([]);
  });

  it('starts before any stream exists, is healthy, and reads the first message of the first one', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    const { server, log } = await nest.serve(noting(`${root}.*`, seen), WILDCARDS);
    expect(log.messages[0]).toMatch(/^Reading 0 streams /);
    expect((await server.health()).isHealthy).toBe(true);
    await nest.emit(`${root}.created`, 1);
    await until('it is handled', () => seen.length === 1);
  });

  it.each(['load-balanced', 'real-time'] as const)(
    'with autoStreamReset latest, reads only new messages of a stream that existed at the start (%s)',
    async (mode) => {
      const root = uniqueName('orders');
      const seen: string[] = [];
      await nest.emit(`${root}.old`, 'before');
      await nest.serve(noting(`${root}.*`, seen), { ...WILDCARDS, mode, autoStreamReset: 'latest' });
      await nest.emit(`${root}.old`, 'after');
      await nest.emit(`${root}.new`, 'first');
      await until('both are handled', () => seen.length === 2);
      expect([...seen].sort()).toEqual([`${root}.* ${root}.new first`, `${root}.* ${root}.old after`]);
    },
  );

  it('never reads dead letters, replies, or what is kept beside streams', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    const handler = onEvent(
      '>',
      (n: unknown, context: RedisStreamsContext) => {
        seen.push(`${context.getStream()} ${String(n)}`);
        if (n === 'fail') throw new Error('no');
      },
      { retry: { attempts: 1 }, deadLetter: { stream: `${root}.failed` } },
    );
    const other = onEvent(
      `${root}.own`,
      () => {
        throw new Error('no');
      },
      { retry: { attempts: 1 } },
    );
    const sums = onRequest(`${root}.sum`, () => 'sum');
    await nest.redis.xadd(`nrs:{${root}}:other`, '*', 'msg', '1');
    await nest.serve([handler, other, sums], WILDCARDS);
    await nest.emit(`${root}.some`, 'fail');
    await nest.emit(`${root}.own`, 'fail');
    expect(await lastValueFrom(nest.client().send(`${root}.sum`, {}))).toBe('sum');
    await until('there are dead letters', async () => {
      return (await nest.redis.exists(`${root}.failed`, `${root}.own.dead`)) === 2;
    });
    await untilLookedTwice(seen, root);
    // Other tests of this file have streams of their own here.
    expect(withoutProbes(seen).filter((line) => line.includes(root))).toEqual([`${root}.some fail`]);
    expect(seen.filter((line) => /^(?:reply:|nrs:)/.test(line))).toEqual([]);
  });

  it.each([false, true])(
    'a stream is read once: for its own pattern, or for the most specific wildcard (handlers of their own: %s)',
    async (areAlone) => {
      const root = uniqueName('orders');
      const seen: string[] = [];
      const patterns = [`${root}.>`, `${root}.*`, `${root}.eu.*`, `${root}.created`];
      const controllers = patterns.map((pattern, index) => {
        return noting(pattern, seen, areAlone ? { concurrency: index + 1 } : {});
      });
      await nest.serve(controllers, WILDCARDS);
      for (const stream of ['created', 'paid', 'eu.paid', 'us.east.paid']) await nest.emit(`${root}.${stream}`, 1);
      await until('all are handled', () => seen.length >= 4);
      await untilLookedTwice(seen, root);
      expect(withoutProbes(seen)).toEqual([
        `${root}.* ${root}.paid 1`,
        `${root}.> ${root}.us.east.paid 1`,
        `${root}.created ${root}.created 1`,
        `${root}.eu.* ${root}.eu.paid 1`,
      ]);
    },
  );

  it('a handler without a group has messages of its own', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await nest.serve([noting(`${root}.>`, seen), noting(`${root}.>`, seen, { mode: 'real-time' })], WILDCARDS);
    await nest.emit(`${root}.created`, 1);
    await until('both are called', () => seen.length === 2);
  });

  it('several instances share the messages', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await nest.serve(noting(`${root}.*`, seen), WILDCARDS);
    await nest.serve(noting(`${root}.*`, seen), WILDCARDS);
    for (let n = 0; n < 20; n += 1) await nest.emit(`${root}.${n % 3}`, n);
    await until('all are handled', () => seen.length === 20);
    expect(new Set(seen).size).toBe(20);
    for (const stream of [0, 1, 2]) await nest.untilSettled(`${root}.${stream}`);
  });

  it.each(['load-balanced', 'real-time'] as const)(
    'a stream that is deleted is not created again, and one that comes in its place is read from its beginning (%s)',
    async (mode) => {
      const root = uniqueName('tenants');
      const seen: string[] = [];
      const { server, log } = await nest.serve(noting(`${root}.>`, seen, { mode }), {
        ...WILDCARDS,
        blockTimeout: 200,
      });
      await nest.emit(`${root}.a`, 1);
      await until('it is handled', () => seen.length === 1);
      await nest.redis.del(`${root}.a`);
      await until('it is noticed', () => log.messages.includes(`Gone, and no longer read: '${root}.a'`));
      await untilLookedTwice(seen, root);
      expect(await nest.redis.exists(`${root}.a`)).toBe(0);
      await nest.emit(`${root}.a`, 2);
      await until('the new one is read', () => seen.includes(`${root}.> ${root}.a 2`));
      expect((await server.health()).isHealthy).toBe(true);
      expect(log.errors).toEqual([]);
    },
  );

  it('a server that is closed while streams appear reports no failure, and its successor reads on', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    const controller = noting(`${root}.*`, seen);
    let sent = 0;
    for (let round = 0; round < 3; round += 1) {
      const { server, log } = await nest.serve(controller, WILDCARDS);
      for (const end = sent + 10; sent < end;) await nest.emit(`${root}.${sent}`, sent++);
      await until('it has found the first ones', () => seen.length > 15 * round);
      for (const end = sent + 5; sent < end;) await nest.emit(`${root}.${sent}`, sent++);
      await server.close();
      expect(log.errors).toEqual([]);
    }
    await nest.serve(controller, WILDCARDS);
    await until('all are handled', () => new Set(seen).size === sent);
    expect(seen).toHaveLength(sent);
  });

  it('streams that appear are found though the connections are lost again and again', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await nest.serve(noting(`${root}.*`, seen), WILDCARDS);
    for (let round = 0; round < 5; round += 1) {
      await cutConnections(nest.redis);
      await nest.emit(`${root}.${round}`, round);
      await until('it is handled', () => seen.includes(`${root}.* ${root}.${round} ${round}`));
    }
    expect(new Set(seen).size).toBe(5);
  });

  it('a key that is no text is left alone', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await nest.redis.xadd(Buffer.concat([Buffer.from(`${root}.`), Buffer.from([0xff, 0xfe])]), '*', 'msg', '1');
    const { log } = await nest.serve(noting(`${root}.>`, seen), WILDCARDS);
    await untilLookedTwice(seen, root);
    expect(withoutProbes([...log.messages.slice(1), ...log.errors])).toEqual([]);
  });

  it.each(['load-balanced', 'real-time'] as const)(
    'a stream that is added to another pattern moves there, and back when it is removed, and no message is repeated (%s)',
    async (mode) => {
      const root = uniqueName('orders');
      const seen: string[] = [];
      const pattern = uniqueName('vip');
      const { server, log } = await nest.serve([noting(`${root}.*`, seen), noting(pattern, seen, { concurrency: 1 })], {
        ...WILDCARDS,
        mode,
      });
      const found = `Found, and read from now on: '${root}.a'`;
      const handled = async (n: number, by: string): Promise<void> => {
        await nest.emit(`${root}.a`, n);
        await until(`${n} is handled`, () => seen.includes(`${by} ${root}.a ${n}`));
      };
      await handled(1, `${root}.*`);
      await server.addStream(pattern, `${root}.a`);
      await handled(2, pattern);
      await server.removeStream(pattern, `${root}.a`);
      await until('it is found again', () => log.messages.filter((line) => line === found).length === 2);
      await handled(3, `${root}.*`);
      expect(seen).toHaveLength(3);
      if (mode === 'load-balanced') await nest.untilSettled(`${root}.a`);
    },
  );

  it('a paused one reads nothing, also of streams that appear', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    const { server, log } = await nest.serve(noting(`${root}.*`, seen), WILDCARDS);
    await server.pause(`${root}.*`);
    await nest.emit(`${root}.a`, 1);
    await until('it is found', () => log.messages.includes(`Found, and read from now on: '${root}.a'`));
    await nest.emit(`${root}.a`, 2);
    expect(seen).toEqual([]);
    await server.resume(`${root}.*`);
    await until('both are handled', () => seen.length === 2);
  });

  it('with shards, the shards of a stream are one stream', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await nest.redis.xadd(`${root}.a:0`, '*', 'msg', '1');
    await nest.serve(noting(`${root}.*`, seen), { ...WILDCARDS, shards: true });
    await nest.redis.xadd(`${root}.b:1`, '*', 'msg', '2');
    await until('both are handled', () => seen.length === 2);
    expect([...seen].sort()).toEqual([`${root}.* ${root}.a 1`, `${root}.* ${root}.b 2`]);
  });

  it('may have another name in Redis, and a key prefix', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    const streams = { 'orders.*': `${root}.v2.*` };
    await nest.serve(noting('orders.*', seen), { ...WILDCARDS, streams, keyPrefix: 'app:' });
    await nest.redis.xadd(`${root}.v2.a`, '*', 'msg', '1');
    await nest.redis.xadd(`app:${root}.v2.b`, '*', 'msg', '2');
    await until('it is handled', () => seen.length === 1);
    expect(seen).toEqual([`orders.* ${root}.v2.b 2`]);
  });

  it('requests to a stream that exists are answered', async () => {
    const root = uniqueName('orders');
    await nest.redis.xgroup('CREATE', `${root}.a`, 'other', '0', 'MKSTREAM');
    await nest.serve(
      onRequest(`${root}.*`, (data: string, context) => `${context.getStream()} ${data}`),
      WILDCARDS,
    );
    expect(await lastValueFrom(nest.client().send(`${root}.a`, 'x'))).toBe(`${root}.a x`);
  });

  it('a delayed message for a stream that does not exist yet arrives, though its producer is gone', async () => {
    const root = uniqueName('reminders');
    const seen: string[] = [];
    await nest.serve(noting(`${root}.*`, seen), WILDCARDS);
    const client = nest.client();
    await lastValueFrom(client.emit(`${root}.a`, new RedisStreamsRecordBuilder('late').setDelay(1_500).build()));
    await client.close();
    await until('it is handled', () => seen.length === 1);
    expect(seen).toEqual([`${root}.* ${root}.a late`]);
  });

  it('one stream that may not be read holds up no other, and is reported once', async () => {
    const root = uniqueName('orders');
    const seen: string[] = [];
    await setUser(nest.redis, root, `~${root}.a* ~nrs:* +@all`);
    nest.closeLater({ close: () => nest.redis.call('ACL', 'DELUSER', root) });
    const connection = nest.url.replace('redis://', `redis://${root}:pw@`);
    await nest.emit(`${root}.secret`, 1);
    const { log } = await nest.serve(noting(`${root}.>`, seen), { ...WILDCARDS, connection });
    await nest.emit(`${root}.a`, 2);
    await until('the other is handled', () => seen.length === 1);
    await nest.emit(`${root}.aa`, 3);
    await until('the next is handled', () => seen.length === 2);
    const refusals = [...log.errors, ...log.messages].filter((line) => line.includes('.secret'));
    expect(refusals).toHaveLength(1);
    expect(refusals[0]).toMatch(/NOPERM|permission/);
  });

  it('the start fails with a reason that names SCAN where Redis does not permit it', async () => {
    const root = uniqueName('orders');
    await setUser(nest.redis, root, '~* +@all -scan');
    const connection = nest.url.replace('redis://', `redis://${root}:pw@`);
    const starting = nest.serve(noting(`${root}.*`, []), { ...WILDCARDS, connection });
    await expect(starting).rejects.toMatchObject({
      code: 'ERR_PERMISSION',
      message: expect.stringMatching(new RegExp(`'${root}\\.\\*'.*scan`, 'is')),
    });
    await nest.redis.call('ACL', 'DELUSER', root);
  });

  it.each([
    ['orders.*', {}, 'the option wildcards: true'],
    ['>', {}, 'the option wildcards: true'],
    ['ord*', { wildcards: true }, 'whole word'],
    ['orders.>.x', { wildcards: true }, 'whole word'],
    ['orders.*', { wildcards: true, streams: { 'orders.*': 'orders' } }, "must have '*' or '>'"],
    ['orders.*', { wildcards: true, streams: { 'orders.*': 'v2*' } }, 'whole word'],
  ] as const)('%s with %p is refused before any connection is made', async (pattern, options, rule) => {
    await expect(nest.serve(noting(pattern, []), options)).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining(rule),
    });
  });

  it.each([
    [{ interval: 99 }, 'wildcards.interval'],
    [{ interval: 2 ** 31 }, 'wildcards.interval'],
    [{ interval: Number.NaN }, 'wildcards.interval'],
    [{ intervall: 1_000 }, 'wildcards.intervall'],
    ['true', 'wildcards'],
    [null, 'wildcards'],
    [[], 'wildcards'],
  ])('the option %p is refused', async (wildcards, option) => {
    await expect(nest.serve(noting('a.*', []), { wildcards: wildcards as never })).rejects.toMatchObject({ option });
  });

  it.each(['orders.*', 'orders.>'])('nothing can be sent to %s', async (pattern) => {
    const sending = lastValueFrom(nest.client().emit(pattern, 1));
    await expect(sending).rejects.toThrow(/must have no '\*' or '>': a message goes to one stream/);
  });

  it('the pattern of an object is no wildcard, and a single stream may have another name with a star in it', async () => {
    const seen: string[] = [];
    const [pattern, streamKey] = [uniqueName('orders'), `${uniqueName('x')}.*`];
    const streams = { [pattern]: streamKey };
    await nest.serve([noting(pattern, seen), onEvent({ cmd: `${pattern}.*.x` }, () => void seen.push('object'))], {
      ...WILDCARDS,
      streams,
    });
    await nest.redis.xadd(streamKey, '*', 'msg', '1');
    await nest.emit({ cmd: `${pattern}.*.x` }, 2);
    await until('both are handled', () => seen.length === 2);
    expect([...seen].sort()).toEqual(['object', `${pattern} ${streamKey} 1`].sort());
  });
});

describe('a wildcard in a cluster', () => {
  it('finds the streams of every master, also those that appear later', async () => {
    const cluster = await RedisCluster.start();
    nest.closeLater({ close: () => cluster.stop() });
    const seen: string[] = [];
    const names = Array.from({ length: 12 }, (_, index) => `orders.${index}`);
    const client = nest.client({ connection: cluster.connection });
    const emit = (stream: string, n: number): Promise<unknown> => lastValueFrom(client.emit(stream, n));
    await Promise.all(names.slice(0, 6).map((stream) => emit(stream, 1)));
    await nest.serve(noting('orders.*', seen), { ...WILDCARDS, connection: cluster.connection, group: GROUP });
    await until('those of all masters are read', () => seen.length === 6);
    await Promise.all(names.slice(6).map((stream) => emit(stream, 1)));
    await until('and the new ones', () => seen.length === 12);
    expect(new Set(seen).size).toBe(12);
  }, 30_000);
});
