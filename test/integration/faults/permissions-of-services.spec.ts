import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';
import { firstValueFrom } from 'rxjs';

import type { RedisStreamer, RedisStreamsContext, StreamMessage } from '../../../lib/index.js';
import { NEEDED, CLUSTER, EXACTLY_ONCE, PROMPT_UNBLOCK, SCRIPTS, refusedCommands, setUser } from '../../support/acl.js';
import { onEvent, onRequest } from '../../support/controllers.js';
import { FaultBench } from '../../support/fault-bench.js';
import { GROUP, useNest } from '../../support/nest.js';
import { endClient, nodeClient } from '../../support/node-client.js';
import { RedisServer } from '../../support/redis-server.js';
import { numbers, takeTexts } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const nest = useNest();
let server: RedisServer;
let admin: Redis;

// One server for all tests, because useNest() checks after each test for sockets that the test has opened.
beforeAll(async () => {
  server = await RedisServer.start({ args: ['--appendonly', 'no'] });
  admin = nodeClient(server.url);
});
afterAll(async () => {
  endClient(admin);
  await server.stop();
});
beforeEach(async () => {
  await admin.flushall();
  await admin.call('ACL', 'LOG', 'RESET');
});

const PREFIX = { keyPrefix: 'app:' } as const;

const urlFor = (database = 0): string => `${server.url.replace('redis://', 'redis://app:pw@')}/${database}`;

it('the documented permissions equal the tested ones', () => {
  const page = readFileSync(fileURLToPath(new URL('../../../SECURITY.md', import.meta.url)), 'utf8');
  const block = /ACL SETUSER orders on >password (.*?)```/s.exec(page)?.[1] ?? '';
  expect(block.trim().split(/\s+/)).toEqual(NEEDED.split(/\s+/));
  const rows = [...page.matchAll(/^\| `(\+[^`]+)`/gm)].map(([, rules]) => rules?.replaceAll('\\|', '|').trim());
  expect(rows).toEqual(
    expect.arrayContaining([SCRIPTS, EXACTLY_ONCE, PROMPT_UNBLOCK, '+pexpire', '+scan', '+select', CLUSTER]),
  );
});

describe('a service with the documented permissions', () => {
  it.each([
    ['and no others', NEEDED, ['evalsha', 'pexpire'], ['scripts', 'CLIENT UNBLOCK']],
    ['and scripts', `${NEEDED} ${SCRIPTS}`, ['pexpire'], ['CLIENT UNBLOCK']],
    ['and all optional ones', `${NEEDED} ${SCRIPTS} ${PROMPT_UNBLOCK}`, ['pexpire'], []],
  ])(
    'handles, retries, dead-letters, redrives and answers, and logs each missing permission once (%s)',
    async (_, rules, refused, missing) => {
      await setUser(admin, 'app', rules);
      const debug: string[] = [];
      const log = (): void => undefined;
      const logger = { error: log, warn: log, log, debug: (line: string) => void debug.push(line) };
      const options = { connection: urlFor(), ...PREFIX, logger };
      const counts: number[] = [];
      let isBroken = true;
      const events = onEvent('event', (_data: unknown, context: { getDeliveryCount(): number }) => {
        counts.push(context.getDeliveryCount());
        if (isBroken) throw new Error('not today');
      });
      const sums = onRequest('sum', (terms: number[]) => terms.reduce((a, b) => a + b));
      const times = { autoClaimIdle: 500, autoClaimInterval: 100, retry: { attempts: 3, delay: 20 } };
      await nest.serve({ controllers: [events, sums] }, { ...options, ...times });
      const client = nest.client(options);

      await firstValueFrom(client.emit('event', 'x'));
      expect(await firstValueFrom(client.send('sum', [1, 2, 3]))).toBe(6);
      await until('the message is a dead letter', async () => (await admin.xlen('app:event.dead')) === 1);
      // Until then the redrive leaves it out, because it is still pending.
      await until('it is acknowledged', async () => (await admin.xpending('app:event', GROUP))[0] === 0);
      expect(counts).toEqual([1, 2, 3]);
      isBroken = false;
      const manager = await client.unwrap<RedisStreamer>().createManager();
      expect(await manager.redrive('event.dead')).toMatchObject({ redriven: 1 });
      await until('the message is handled again', () => counts.length > 3);
      await until('nothing is pending', async () => (await admin.xpending('app:event', GROUP))[0] === 0);

      expect(await refusedCommands(admin)).toEqual(refused);
      // The client and the server are two streamers, and each logs a missing permission once: both read, and the server
      // runs scripts.
      const said = debug.flatMap((line) => /does not offer (.*);/.exec(line)?.[1] ?? []);
      for (const [what, streamers] of Object.entries({ scripts: 1, 'CLIENT UNBLOCK': 2 })) {
        const times = said.filter((each) => each === what).length;
        expect([what, times]).toEqual([what, missing.includes(what) ? streamers : 0]);
      }
    },
  );

  it('stores and trims dead letters without XTRIM, and does not count what it trims', async () => {
    await setUser(admin, 'app', NEEDED.replace(' +xtrim', ''));
    const trimmed: unknown[] = [];
    const fail = (): never => {
      throw new Error('not today');
    };
    const deadLetter = { maxLen: 10 };
    const onDeadLetter = (event: { trimmed: number | undefined }): void => void trimmed.push(event.trimmed);
    const options = { connection: urlFor(), ...PREFIX, retry: false, deadLetter, onDeadLetter } as const;
    const { log } = await nest.serve(onEvent('event', fail), options);
    const client = nest.client({ connection: urlFor(), ...PREFIX });
    // Until the first XTRIM is refused, dead letters are stored without a limit.
    await firstValueFrom(client.emit('event', 0));
    await until('the first one is a dead letter', () => trimmed.length === 1);
    await Promise.all(numbers(1, 300).map((n) => firstValueFrom(client.emit('event', n))));

    await until('all are dead letters', () => trimmed.length === 301);
    expect(new Set(trimmed)).toEqual(new Set([undefined]));
    expect(await admin.xlen('app:event.dead')).toBeLessThan(300);
    expect(await refusedCommands(admin)).toEqual(['xtrim']);
    expect(log.errors.filter((line) => line.includes('NOPERM'))).toEqual([]);
  });

  it('manages streams and groups', async () => {
    await setUser(admin, 'app', NEEDED);
    const streamer = await bench.streamer(urlFor(), PREFIX);
    const manager = await streamer.createManager();
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer('s', { ...options, consumer: 'me' });
    const producer = await streamer.createProducer('s');
    for (const payload of numbers(1, 3)) await producer.send(payload);
    await takeTexts(consumer, 3);

    expect((await manager.range('s', '-', '+')).map((message) => message.text())).toEqual(['1', '2', '3']);
    expect(await manager.hasGroups('s')).toBe(true);
    expect(await manager.groups('s')).toMatchObject([{ name: 'g', consumers: [{ name: 'me', pending: 3 }] }]);
    expect(await manager.pending('s', 'g')).toHaveLength(3);
    expect(await manager.consumers('s', 'g')).toMatchObject([{ name: 'me', pending: 3 }]);
    // The memory is unknown without a permission of its own.
    const groups = [{ name: 'g', isPaused: false }];
    expect(await manager.info('s')).toMatchObject({ length: 3, memory: undefined, groups });
    expect(await manager.removeDeadLetter('s', String(await admin.xadd('app:s.dead', '*', 'msg', 'x')))).toBe(true);
    expect(await manager.deadLetters('s')).toEqual([]);
    await admin.del('app:s.dead');
    await manager.setGroupPosition('s', 'g', 'end');
    await expect(manager.removeConsumer('s', 'g', 'me')).rejects.toMatchObject({ code: 'ERR_CONSUMER_PENDING' });
    await producer.trimMaxLen('s', 0);
    await expect(manager.scan()).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
    await setUser(admin, 'app', `${NEEDED} +scan`);
    expect(await manager.scan()).toEqual({ cursor: '0', streams: ['s'] });
    await setUser(admin, 'app', `${NEEDED} +memory|usage`);
    expect((await manager.info('s')).memory).toBeGreaterThan(0);
  });

  it('that is limited to the key of one stream sees the stream without shards and pauses', async () => {
    const info = '-@all +xinfo|stream +xinfo|groups +xinfo|consumers +type +exists +info +ping +client|setname';
    await admin.xadd('app:s', '1-0', 'msg', 'x');
    await admin.xgroup('CREATE', 'app:s', 'g', '0');
    await setUser(admin, 'app', `~app:s ${info}`);
    const manager = await (await bench.streamer(urlFor(), PREFIX)).createManager();
    const groups = [{ name: 'g', isPaused: undefined }];

    expect(await manager.info('s')).toMatchObject({ length: 1, memory: undefined, groups, shards: [{ key: 's' }] });
    await expect(manager.info('t')).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
    await setUser(admin, 'app', `~app:s ${info.replace('+type', '')}`);
    expect(await manager.info('s')).toMatchObject({ length: 1, groups });
  });

  it('needs more permissions for delivery exactly-once, and fails with a clear error without them', async () => {
    const send = async (): Promise<string> => {
      const producer = await (await bench.streamer(urlFor(), PREFIX)).createProducer('s', { delivery: 'exactly-once' });
      return producer.send('x').then(
        () => 'stored',
        (error: { code: string }) => error.code,
      );
    };
    await setUser(admin, 'app', NEEDED);
    expect(await send()).toBe('ERR_UNSUPPORTED_OPERATION');
    await setUser(admin, 'app', `${NEEDED} ${SCRIPTS}`);
    expect(await send()).toBe('ERR_PERMISSION');
    await setUser(admin, 'app', `${NEEDED} ${SCRIPTS} ${EXACTLY_ONCE}`);
    expect(await send()).toBe('stored');
    expect(await admin.xlen('app:s')).toBe(1);
  });

  it('sends exactly once as soon as it is permitted to, with the producer that was refused before', async () => {
    await setUser(admin, 'app', NEEDED);
    const producer = await (await bench.streamer(urlFor(), PREFIX)).createProducer('s', { delivery: 'exactly-once' });
    await expect(producer.send('x')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
    await setUser(admin, 'app', `${NEEDED} ${SCRIPTS} ${EXACTLY_ONCE}`);

    await expect(producer.send('y')).resolves.toMatchObject({ streamKey: 's' });
  });

  it('is limited to the keys of its streams by the documented patterns, dead letters, inbox and exactly-once included', async () => {
    const page = readFileSync(fileURLToPath(new URL('../../../SECURITY.md', import.meta.url)), 'utf8');
    const patterns = /^~orders .*$/m.exec(page)?.[0] ?? 'none';
    const commands = NEEDED.replace('~app:* ', '');
    await setUser(admin, 'app', `${patterns} ${commands} ${SCRIPTS} ${EXACTLY_ONCE} ${PROMPT_UNBLOCK} +get +set`);
    const client = nest.client({ connection: urlFor(), delivery: 'exactly-once' });
    const streamer = client.unwrap<RedisStreamer>();
    const inbox = streamer.createInbox(GROUP);
    const fail = async (_data: unknown, context: RedisStreamsContext): Promise<void> => {
      await inbox.once(context.getMessage(), async () => undefined);
      throw new Error('not today');
    };
    await nest.serve(onEvent('orders', fail), { connection: urlFor(), retry: false });
    await firstValueFrom(client.emit('orders', 'x'));
    await until('the message is a dead letter', async () => (await admin.xlen('orders.dead')) === 1);
    const sharder = { shards: 2, shardOf: () => 1 };
    const sharded = await streamer.createProducer('orders', { delivery: 'exactly-once', sharder });
    const { streamKey, shardId, id } = await sharded.send('y');
    const [message] = await (await streamer.createManager()).range(`${streamKey}:${shardId}`, id, id);
    expect(await inbox.once(message as StreamMessage, async () => undefined)).toBe(true);

    expect(await refusedCommands(admin)).toEqual([]);
    expect((await admin.keys('orders*')).sort()).toEqual(['orders', 'orders.dead', 'orders:1']);
  });

  it('needs SELECT for a database other than 0', async () => {
    await setUser(admin, 'app', NEEDED);
    await expect(bench.streamer(urlFor(1), PREFIX)).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
    await setUser(admin, 'app', `${NEEDED} +select`);
    const producer = await (await bench.streamer(urlFor(1), PREFIX)).createProducer('s');
    await producer.send('x');

    await admin.select(1);
    expect(await admin.xlen('app:s')).toBe(1);
    await admin.select(0);
  });

  it('needs only four commands when it only sends', async () => {
    await setUser(admin, 'app', '~app:* -@all +xadd +info +ping +client|setname');
    const producer = await (await bench.streamer(urlFor(), PREFIX)).createProducer('s', { maxLen: 1_000 });
    await Promise.all(numbers(1, 50).map((payload) => producer.send(payload)));

    const entries = await admin.xrange('app:s', '-', '+');
    expect(entries.map(([, [, payload]]) => payload)).toEqual(numbers(1, 50));
  });
});
