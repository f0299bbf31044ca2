import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';

import type { RedisStreamsConnection } from '../../../lib/index.js';
import { CLUSTER, NEEDED, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';

const bench = new FaultBench();

afterEach(() => {
  jest.restoreAllMocks();
});

const NO_INFO = ['--appendonly', 'no', '--rename-command', 'INFO', ''];

async function withoutInfo(): Promise<string> {
  return (await bench.server({ args: NO_INFO })).url;
}

async function withoutPermission(): Promise<string> {
  const server = await bench.server({ args: ['--appendonly', 'no'] });
  await setUser(bench.admin(server.url), 'app', `${NEEDED} -info`);
  return server.url.replace('redis://', 'redis://app:pw@');
}

type Form = [form: string, make: () => Promise<RedisStreamsConnection>];
const FORMS: readonly Form[] = [
  ['INFO is unknown', withoutInfo],
  [
    'INFO is unknown, to a connecting client of a function',
    async () => {
      const url = await withoutInfo();
      return () => new Redis(url);
    },
  ],
  ['INFO is not permitted', withoutPermission],
  [
    'INFO is not permitted, to a lazy client of a function',
    async () => {
      const url = await withoutPermission();
      return () => new Redis(url, { lazyConnect: true });
    },
  ],
];

/** Reads without INFO. */
function plain(url: string): Redis {
  const client = new Redis(url, { enableReadyCheck: false });
  bench.endLater(() => client.disconnect());
  return client;
}

describe('a server', () => {
  it.each(FORMS)('is used although %s, and ioredis writes nothing to the console', async (_, make) => {
    const written = jest.spyOn(console, 'warn').mockImplementation(() => undefined);
    const streamer = await bench.streamer(await make());
    const consumer = await streamer.createConsumer('app:s', { mode: 'load-balanced', group: 'g', mkStream: true });
    const producer = await streamer.createProducer('app:s');
    await producer.send('message');

    expect((await consumer.next()).text()).toBe('message');
    expect(streamer.connections.reconnects).toBe(0);
    expect(bench.log).toEqual([]);
    expect(written).not.toHaveBeenCalled();
  });

  it.each([
    ['INFO is not permitted', 'nodes', []],
    ['INFO is not permitted, to a Cluster of a function', 'a function', []],
    ['INFO is unknown', 'nodes', ['--rename-command', 'INFO', '']],
    ['INFO is unknown, to a Cluster of a function', 'a function', ['--rename-command', 'INFO', '']],
  ])('of a cluster is used although %s', async (_, form, args) => {
    const cluster = await RedisCluster.start({ args });
    bench.endLater(() => cluster.stop());
    for (const { admin } of cluster.masters) await setUser(admin, 'app', `${NEEDED} ${CLUSTER} -info`);
    const options = { redisOptions: { username: 'app', password: 'pw' } };
    const { cluster: nodes } = cluster.connection;
    const streamer = await bench.streamer(
      form === 'nodes' ? { cluster: nodes, options } : () => new Cluster(nodes, options),
    );
    const producer = await streamer.createGenericProducer();

    for (const key of ['app:a', 'app:b', 'app:c', 'app:d']) {
      await expect(producer.sendTo(key, 'message')).resolves.toMatchObject({ streamKey: key });
    }
    expect(bench.log).toEqual([]);
    // The client that ioredis keeps for subscriptions must not connect again and again.
    const ids = async (): Promise<number[]> =>
      [...String(await cluster.masters[0]?.admin.client('LIST')).matchAll(/^id=(\d+)/gm)].map(([, id]) => Number(id));
    expect(Math.max(...(await ids()))).toBeLessThan(100);
  });

  it.each([
    ['', []],
    [' although INFO is unknown', ['--rename-command', 'INFO', '']],
  ])('that loads its data is waited for, without a failed attempt%s', async (_, more) => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    const isOld = (await admin.info('server')).includes('redis_version:6.0');
    await Promise.all(Array.from({ length: 300 }, (_, index) => admin.set(String(index), '')));
    // With this option the server replies LOADING while it loads; Redis 6.0 does not have it and does not reply at all.
    const whileLoading = isOld ? [] : ['--loading-process-events-interval-bytes', '1024'];
    await server.kill();
    const restarting = server.restart(['--key-load-delay', '3000', ...whileLoading, ...more]);
    const streamer = await bench.streamer(server.url);
    await restarting;
    await (await streamer.createProducer('s')).send('message');

    expect(bench.log.join('\n')).not.toMatch(/LOADING|INFO/);
    expect(await plain(server.url).xlen('s')).toBe(1);
  });
});
