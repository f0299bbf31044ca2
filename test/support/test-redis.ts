import { Cluster, type Redis } from 'ioredis';

import type { ClusterConnection } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { CLUSTER, setUser } from './acl.js';
import type { FaultBench } from './fault-bench.js';
import { FaultProxies } from './fault-proxies.js';
import { RedisCluster } from './redis-cluster.js';
import type { ClusterNode } from './redis-cluster.js';
import type { RedisServer } from './redis-server.js';

/** Whether the tests of integrity run on a cluster; otherwise on a single server. */
export const IS_CLUSTER = process.env['REDIS_TOPOLOGY'] === 'cluster';

/** The form of CI has fewer rounds in a cluster, in which a start takes two seconds; `npm run test:integrity:cluster` has all. */
const IS_SHORT = IS_CLUSTER && process.env['INTEGRITY_ROUNDS'] !== 'all';

/** How often a test repeats its faults. @param part of them in the form of CI: one of so many */
export function rounds(count: number, part = 3): number {
  return IS_SHORT ? Math.ceil(count / part) : count;
}

/** The Redis of one test: a single server, or three masters with a replica each, as `REDIS_TOPOLOGY` says. */
export interface TestRedis {
  /** May be passed to other processes as JSON. */
  readonly connection: string | ClusterConnection;
  /** Creates a user with these rules, and those that a cluster needs; returns the connection that uses it. */
  connectionOfUser(name: string, rules: string): Promise<string | ClusterConnection>;
  /** The servers that take writes. */
  readonly masters: readonly RedisServer[];
  /** A plain client for commands with keys; it ends with the test. */
  client(): RedisClient;
  /** The server that serves a key, to be killed, restarted or suspended. */
  masterOf(key: string): Promise<RedisServer>;
  /** The number of connections that have a name of this package, on all masters. */
  connections(): Promise<number>;
  /** Names of streams, one for each master; a single server has one stream with the name itself. */
  spread(name: string): Promise<string[]>;
  /** Proxies before all masters. @param streams that have messages: replies can be torn only where there are some */
  proxies(streams: string | readonly string[]): Promise<FaultProxies>;
}

export interface TestRedisOptions {
  /** Whether what was confirmed survives a kill of the server. Default: true. */
  readonly isDurable?: boolean;
  readonly args?: readonly string[];
}

/** Starts the Redis of a test; the bench stops it after the test. */
export async function startTestRedis(bench: FaultBench, options: TestRedisOptions = {}): Promise<TestRedis> {
  if (!IS_CLUSTER) return startSingle(bench, options);
  const cluster = await startCluster(options);
  bench.endLater(() => cluster.stop());
  return clusterRedis(bench, cluster);
}

/** The cluster of the tests of this file; Jest loads the module once for each file. */
let lasting: RedisCluster | undefined;

/** The same where tests change nothing of the server and use names of their own: a cluster then serves all tests of the file. */
export async function keepTestRedis(bench: FaultBench, options: TestRedisOptions = {}): Promise<TestRedis> {
  if (!IS_CLUSTER) return startSingle(bench, options);
  lasting ??= await startCluster(options);
  return clusterRedis(bench, lasting);
}

export async function stopLastingRedis(): Promise<void> {
  await lasting?.stop();
  lasting = undefined;
}

async function connectionsTo(admins: readonly Redis[]): Promise<number> {
  const lists = await Promise.all(admins.map((admin) => admin.client('LIST')));
  return lists.join('').split('name=nestjs-redis-streams').length - 1;
}

const VOLATILE = ['--appendonly', 'no', '--save', ''];

async function startSingle(bench: FaultBench, { isDurable = true, args = [] }: TestRedisOptions): Promise<TestRedis> {
  const server = await bench.server({ args: [...(isDurable ? [] : VOLATILE), ...args] });
  const admin = bench.admin(server.url);
  return {
    connection: server.url,
    async connectionOfUser(name, rules) {
      await setUser(admin, name, rules);
      return server.url.replace('redis://', `redis://${name}:pw@`);
    },
    masters: [server],
    client: () => bench.admin(server.url),
    masterOf: () => Promise.resolve(server),
    connections: () => connectionsTo([admin]),
    spread: (name) => Promise.resolve([name]),
    async proxies() {
      const proxy = await bench.proxy(server);
      return new FaultProxies(proxy.url, [proxy], [proxy]);
    },
  };
}

/**
 * No test takes longer than this: a killed or suspended master is not replaced, because what its replica does not have yet would be
 * lost. What happens with failovers is the matter of cluster-chaos.spec.ts.
 */
const NO_FAILOVER = 600_000;
/** Each write is passed to the system before its reply, so it survives a kill of the process; `everysec` may hold it back. */
const DURABLE = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'no'];

function startCluster({ isDurable = true, args = [] }: TestRedisOptions): Promise<RedisCluster> {
  return RedisCluster.start({
    replicas: true,
    nodeTimeout: NO_FAILOVER,
    args: [...(isDurable ? DURABLE : VOLATILE), ...args],
  });
}

function clusterRedis(bench: FaultBench, cluster: RedisCluster): TestRedis {
  const masters = cluster.masters.map(({ server }) => server);
  const admins = cluster.masters.map(({ admin }) => admin);
  const masterOf = async (key: string): Promise<ClusterNode> => cluster.masterOf(key);
  return {
    connection: cluster.connection,
    async connectionOfUser(name, rules) {
      for (const { admin } of cluster.nodes) await setUser(admin, name, `${rules} ${CLUSTER}`);
      return { ...cluster.connection, options: { redisOptions: { username: name, password: 'pw' } } };
    },
    masters,
    client: () => clusterClient(bench, cluster),
    masterOf: async (key) => (await masterOf(key)).server,
    connections: () => connectionsTo(admins),
    spread: (name) => cluster.keys(name, cluster.masters.length),
    async proxies(streams) {
      const proxies = await Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
      const owners = new Set(await Promise.all([streams].flat().map(masterOf)));
      const busy = proxies.filter((_, index) => owners.has(cluster.masters[index] as ClusterNode));
      return new FaultProxies(cluster.connectionThrough(proxies), proxies, busy);
    },
  };
}

function clusterClient(bench: FaultBench, { nodes }: RedisCluster): Cluster {
  const client = new Cluster(
    nodes.map(({ server: { host, port } }) => ({ host, port })),
    {
      clusterRetryStrategy: () => 50,
      maxRedirections: 200,
      retryDelayOnClusterDown: 50,
      retryDelayOnFailover: 50,
      redisOptions: { protocol: 2, disconnectTimeout: 100 },
    },
  );
  client.on('error', () => undefined);
  bench.endLater(() => client.disconnect());
  return client;
}
