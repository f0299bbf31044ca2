import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import type { RedisStreamsConnection, RedisStreamsError, StreamerOptions } from '../../../lib/index.js';
import { ConformanceServers } from '../../support/conformance-servers.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { pendingOf, take } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let servers: ConformanceServers;
beforeAll(async () => {
  servers = await ConformanceServers.start();
});
afterAll(() => servers.stop());

const options = {
  mode: 'load-balanced',
  group: 'g',
  autoStreamReset: 'earliest',
  autoCommit: 'disabled',
  mkStream: true,
  autoClaimIdle: 600,
  leaseRenewal: 'thread',
} as const;
/** Much longer than a claim idle. */
const BLOCK = 2_400;

const block = (): unknown => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCK);

/** The addresses of the connections of the thread. */
async function threadAddresses(admin: Redis): Promise<string[]> {
  const lines = String(await admin.client('LIST')).split('\n');
  return lines.flatMap((line) =>
    line.includes('name=nestjs-redis-streams:renewal') ? (/\baddr=(\S+)/.exec(line)?.[1] ?? []) : [],
  );
}

const untilConnected = (admin: Redis, count = 1): Promise<void> =>
  until('the thread is connected', async () => (await threadAddresses(admin)).length === count);

/** A consumer that has handed one message out. */
async function consume(connection: RedisStreamsConnection, streamKey: string, streamerOptions: StreamerOptions = {}) {
  const streamer = await bench.streamer(connection, streamerOptions);
  await (await streamer.createProducer(streamKey)).send('a');
  const consumer = await streamer.createConsumer(streamKey, options);
  await take(consumer, 1);
  return { streamer, consumer };
}

/** Blocks the event loop; returns for how long the message had been idle then. */
async function idleAfterBlock(admin: Redis, key: string): Promise<number | undefined> {
  block();
  const [entry] = await pendingOf(admin, key, options.group);
  return entry?.idle;
}

describe('the thread renews leases', () => {
  const ways: Record<string, () => { connection: RedisStreamsConnection; db?: number; keyPrefix?: string }> = {
    'as a user with a password, in another database, with a key prefix': () => ({
      connection: { port: servers.server.port, username: 'all', password: 'pw', db: 3 },
      db: 3,
      keyPrefix: 'prefix:',
    }),
    'as a user who may not run scripts': () => ({
      connection: { port: servers.server.port, username: 'no-scripts', password: 'pw' },
    }),
    'over TLS': () => ({
      connection: { host: '127.0.0.1', port: servers.tlsPort, tls: { ca: servers.certificate.ca } },
    }),
    'over a Unix socket': () => ({ connection: { path: servers.unixSocket } }),
  };

  it.each(Object.keys(ways))('%s', async (way) => {
    const { connection, db = 0, keyPrefix = '' } = (ways[way] as (typeof ways)[string])();
    const streamKey = uniqueName('stream');
    const { streamer } = await consume(connection, streamKey, { keyPrefix });
    const admin = new Redis(servers.server.port, { db });
    try {
      await untilConnected(admin);
      expect(await idleAfterBlock(admin, keyPrefix + streamKey)).toBeLessThan(BLOCK / 2);
      await streamer.disconnect();
      await untilConnected(admin, 0);
    } finally {
      admin.disconnect();
    }
  });

  it("only with leaseRenewal 'thread': with 'loop' the message is idle while the event loop is blocked", async () => {
    const streamKey = uniqueName('stream');
    const streamer = await bench.streamer(servers.server.url);
    await (await streamer.createProducer(streamKey)).send('a');
    await take(await streamer.createConsumer(streamKey, { ...options, leaseRenewal: 'loop' }), 1);
    expect(await idleAfterBlock(servers.admin, streamKey)).toBeGreaterThan(BLOCK * 0.9);
  });

  it('on the master that Sentinels name', async () => {
    const { host, port } = await servers.sentinel();
    const streamKey = uniqueName('stream');
    await consume({ sentinels: [{ host, port }], name: 'orders' }, streamKey);
    await untilConnected(servers.admin);
    expect(await idleAfterBlock(servers.admin, streamKey)).toBeLessThan(BLOCK / 2);
  });

  it('on the node of a cluster that serves the stream, also when its slot has moved', async () => {
    const cluster = await servers.cluster();
    const [streamKey] = (await cluster.keys(uniqueName('stream'), 1)) as [string];
    const [source, target] = cluster.masters as [(typeof cluster.masters)[0], (typeof cluster.masters)[0]];
    await consume(cluster.connection, streamKey);
    await untilConnected(source.admin);
    expect(await idleAfterBlock(source.admin, streamKey)).toBeLessThan(BLOCK / 2);
    await cluster.move(streamKey, target);
    await untilConnected(target.admin);
    expect(await idleAfterBlock(target.admin, streamKey)).toBeLessThan(BLOCK / 2);
  });

  it('over a new connection when its own is lost while the event loop is blocked', async () => {
    const streamKey = uniqueName('stream');
    await consume(servers.server.url, streamKey);
    await untilConnected(servers.admin);
    const [address] = (await threadAddresses(servers.admin)) as [string];
    await servers.admin.client('KILL', address);
    expect(await idleAfterBlock(servers.admin, streamKey)).toBeLessThan(BLOCK / 2);
    expect(await threadAddresses(servers.admin)).not.toContain(address);
  });

  it('and its report that it cannot log in again has no password', async () => {
    const name = uniqueName('user');
    const login = { username: name, password: 'a-secret' };
    await servers.admin.acl('SETUSER', name, 'on', '>a-secret', '~*', '+@all');
    const { consumer } = await consume({ port: servers.server.port, ...login }, uniqueName('stream'));
    const errors: RedisStreamsError[] = [];
    consumer.on('error', (error) => errors.push(error));
    await untilConnected(servers.admin);
    await servers.admin.acl('SETUSER', name, 'off');
    for (const address of await threadAddresses(servers.admin)) await servers.admin.client('KILL', address);
    await until('it is reported', () => errors.length > 0);
    await servers.admin.acl('SETUSER', name, 'on');
    expect(errors[0]).toMatchObject({ code: 'ERR_PERMISSION' });
    expect(errors[0]?.message).toContain('for the thread that renews leases, refused the login');
    expect(errors[0]?.message).not.toContain('a-secret');
    await untilConnected(servers.admin);
  });

  it('and connects less and less often to a server that has no room for its connection, which it reports', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    const { consumer } = await consume(server.url, 's');
    const errors: RedisStreamsError[] = [];
    consumer.on('error', (error) => errors.push(error));
    await untilConnected(admin);
    const [address] = (await threadAddresses(admin)) as [string];
    const clients = /connected_clients:(\d+)/.exec(await admin.info('clients'))?.[1];
    await admin.config('SET', 'maxclients', Number(clients) - 1);
    await admin.client('KILL', address);
    await until('it is reported', () => errors.length > 0);
    const refused = async (): Promise<number> =>
      Number(/rejected_connections:(\d+)/.exec(await admin.info('stats'))?.[1]);
    await until('it has tried again', async () => (await refused()) > 1);
    expect(await refused()).toBeLessThan(10);
    expect(errors[0]?.message).toContain('max number of clients reached');
    await admin.config('SET', 'maxclients', 10_000);
    await untilConnected(admin);
    expect(errors).toHaveLength(1);
  });

  it('for all consumers of a process together, and ends with the last one of them', async () => {
    const [first, second] = [uniqueName('stream'), uniqueName('stream')];
    const { streamer, consumer } = await consume(servers.server.url, first);
    const other = await streamer.createConsumer(second, options);
    await untilConnected(servers.admin);
    await consumer.end();
    await untilConnected(servers.admin);
    await other.end();
    await untilConnected(servers.admin, 0);
    for (let cycle = 0; cycle < 20; cycle += 1) await (await streamer.createConsumer(second, options)).end();
    await untilConnected(servers.admin, 0);
  });
});
