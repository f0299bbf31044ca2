import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';
import type { ClusterOptions, RedisOptions } from 'ioredis';

import type { RedisStreamsConnection } from '../../lib/index.js';
import { useServers } from '../support/command-bench.js';
import { FaultBench } from '../support/fault-bench.js';
import { uniqueName } from '../support/redis.js';
import { take, takeTexts } from '../support/streams.js';

const servers = useServers();
const bench = new FaultBench();

/** Longer than every time limit of a command below, and shorter than the time that a read blocks. */
const QUIET = 80;
const BLOCK_TIMEOUT = 500;

/**
 * Sends and reads in each mode while reads block for longer than the client's own limits, and handles a message once by an
 * inbox. Expects each message once, nothing pending and no lost connection.
 */
async function expectToWork(connection: RedisStreamsConnection): Promise<void> {
  const streamer = await bench.streamer(connection, { blockTimeout: BLOCK_TIMEOUT });
  const stream = uniqueName('stream');
  const producer = await streamer.createProducer(stream);
  const [mode, autoCommit] = ['load-balanced', 'rolling'] as const;
  const group = { mkStream: true, autoCommit, autoCommitInterval: 0, autoClaimInterval: false } as const;
  const tail = await streamer.createConsumer(stream, { mode: 'real-time' });
  const shared = await streamer.createConsumer(stream, { mode, group: 'g', ...group });
  const inbox = streamer.createInbox('g');
  const payloads = ['0', '1', '2', '3', '4'];
  const handled: string[] = [];
  for (const payload of payloads) {
    await pause(QUIET);
    await producer.send(payload);
    expect(await takeTexts(tail, 1)).toEqual([payload]);
    for (const message of await take(shared, 1)) {
      const work = async (): Promise<void> => void handled.push(message.text());
      expect(await inbox.once(message, work)).toBe(true);
      expect(await inbox.once(message, work)).toBe(false);
      shared.ack(message);
    }
  }
  expect(handled).toEqual(payloads);
  await shared.end();
  const manager = await streamer.createManager();
  expect(await manager.pending(stream, 'g')).toEqual([]);
  expect((await streamer.health()).reconnects).toBe(0);
}

/** Options of ioredis that would lose or repeat messages, or change replies, if they reached a connection. */
const OPTIONS: ReadonlyArray<[name: string, options: RedisOptions]> = [
  ['commandTimeout', { commandTimeout: QUIET / 2 }],
  ['blockingTimeout', { blockingTimeout: QUIET / 2 }],
  ['socketTimeout', { socketTimeout: QUIET / 2 }],
  ['stringNumbers', { stringNumbers: true }],
  ['replyMapping', { replyMapping: 'resp3' } as RedisOptions],
  [
    'enableOfflineQueue and autoResendUnfulfilledCommands',
    { enableOfflineQueue: false, autoResendUnfulfilledCommands: true },
  ],
  ['maxRetriesPerRequest and retryStrategy', { maxRetriesPerRequest: 0, retryStrategy: () => 10 }],
  ['readOnly', { readOnly: true }],
  ['enableAutoPipelining', { enableAutoPipelining: true }],
];

describe.each([
  ['with the take-over of sockets', undefined],
  ['by ioredis alone', 'ioredis'],
])('%s, a client works whatever its maker has set:', (_, wire) => {
  const name = 'NESTJS_REDIS_STREAMS_WIRE';
  const before = process.env[name];
  beforeAll(() => {
    if (wire) process.env[name] = wire;
  });
  afterAll(() => {
    if (before === undefined) delete process.env[name];
    else process.env[name] = before;
  });

  const address = (): RedisOptions => ({ host: servers().server.host, port: servers().server.port });
  it.each(OPTIONS)('%s, in an object of options', async (_name, options) => {
    await expectToWork({ ...address(), ...options });
  });

  it.each(OPTIONS)('%s, on a client that a function returned before it connects', async (_name, options) => {
    await expectToWork(() => new Redis({ ...address(), ...options, lazyConnect: true }));
  });

  it.each(OPTIONS)('%s, on a client that connects already', async (_name, options) => {
    await expectToWork(() => new Redis({ ...address(), ...options }));
  });

  const CLUSTER_OPTIONS: ReadonlyArray<[name: string, options: ClusterOptions]> = [
    ['scaleReads', { scaleReads: 'slave', enableOfflineQueue: false, enableAutoPipelining: true }],
    ...OPTIONS.slice(0, 5).map(([name, redisOptions]): [string, ClusterOptions] => [name, { redisOptions }]),
  ];
  it.each(CLUSTER_OPTIONS)('%s, in the options of a cluster', async (_name, options) => {
    const { cluster } = (await servers().cluster()).connection;
    await expectToWork({ cluster, options });
  });

  const isPossible = ([name]: (typeof CLUSTER_OPTIONS)[number]): boolean => name !== 'stringNumbers';
  it.each(CLUSTER_OPTIONS.filter(isPossible))('%s, on a Cluster that a function returned', async (_name, options) => {
    const { cluster } = (await servers().cluster()).connection;
    await expectToWork(() => new Cluster(cluster, options));
  });

  it('the key prefix of a cluster, also that of its redisOptions', async () => {
    const { cluster } = (await servers().cluster()).connection;
    const streamer = await bench.streamer({ cluster, options: { redisOptions: { keyPrefix: 'app:' } } });
    const stream = uniqueName('stream');
    await (await streamer.createProducer(stream)).send('x');
    const { admin } = await (await servers().cluster()).masterOf(`app:${stream}`);
    expect(await admin.xlen(`app:${stream}`)).toBe(1);
  });
});

describe('a client of another copy of ioredis', () => {
  const folder = mkdtempSync(join(tmpdir(), 'another-ioredis-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it('works: what it is used for does not depend on the copy of its class', async () => {
    const original = dirname(createRequire(import.meta.url).resolve('ioredis/package.json'));
    const modules = join(folder, 'node_modules');
    mkdirSync(modules);
    for (const name of readdirSync(dirname(original))) {
      if (name !== 'ioredis') symlinkSync(join(dirname(original), name), join(modules, name));
    }
    cpSync(original, join(modules, 'ioredis'), { recursive: true });
    const other = createRequire(join(folder, 'main.js'))('ioredis') as { Redis: typeof Redis; Cluster: typeof Cluster };
    expect(other.Redis).not.toBe(Redis);

    const { host, port } = servers().server;
    await expectToWork(() => new other.Redis({ host, port }));
    const { cluster } = (await servers().cluster()).connection;
    await expectToWork(() => new other.Cluster(cluster));
  });
});
