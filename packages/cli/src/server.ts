import { Cluster } from 'ioredis';
import type { Redis } from 'ioredis';
import { FailedError } from './failure.js';

/** Milliseconds by the clock of the server that holds the key. */
export async function serverTime(redis: Redis | Cluster, key: string): Promise<number> {
  const node = redis instanceof Cluster ? await nodeOf(redis, key) : redis;
  const [seconds, microseconds] = await node.time();
  return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
}

/** All servers that hold keys. */
export async function mastersOf(redis: Redis | Cluster): Promise<Redis[]> {
  if (!(redis instanceof Cluster)) return [redis];
  await ready(redis);
  return redis.nodes('master');
}

async function nodeOf(cluster: Cluster, key: string): Promise<Redis> {
  await ready(cluster);
  const slot = Number(await cluster.cluster('KEYSLOT', key));
  const address = cluster.slots[slot]?.[0];
  const node = cluster.nodes('master').find(({ options }) => `${options.host}:${options.port}` === address);
  if (!node) throw new FailedError(`No node of the cluster has the slot of '${key}'`);
  return node;
}

async function ready(cluster: Cluster): Promise<void> {
  if (cluster.status !== 'ready') await cluster.ping();
}
