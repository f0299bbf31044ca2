import { once } from 'node:events';
import { Cluster } from 'ioredis';
import type { Redis } from 'ioredis';
import { FailedError } from './failure.js';

/** Milliseconds by the clock of the server that holds the key. */
export async function serverTime(redis: Redis | Cluster, key: string): Promise<number> {
  const node = redis instanceof Cluster ? await nodeOf(redis, key) : redis;
  const [seconds, microseconds] = await node.time();
  return Number(seconds) * 1_000 + Math.floor(Number(microseconds) / 1_000);
}

/** A server that holds keys. */
export interface Master {
  readonly address: string;
  /** Undefined where ioredis has given its connection up. */
  readonly client: Redis | undefined;
}

/** All servers that hold keys, also those of a cluster that are away. */
export async function mastersOf(redis: Redis | Cluster): Promise<Master[]> {
  if (!(redis instanceof Cluster)) return [{ address: addressOf(redis), client: redis }];
  await ready(redis);
  const clients = new Map(redis.nodes('master').map((client) => [addressOf(client), client]));
  const addresses = new Set(redis.slots.flatMap(([master]) => master ?? []));
  return [...addresses].map((address) => ({ address, client: clients.get(address) }));
}

export function addressOf({ options }: Redis): string {
  return `${options.host}:${options.port}`;
}

async function nodeOf(cluster: Cluster, key: string): Promise<Redis> {
  await ready(cluster);
  const slot = Number(await cluster.cluster('KEYSLOT', key));
  const address = cluster.slots[slot]?.[0];
  const node = cluster.nodes('master').find((client) => addressOf(client) === address);
  if (!node) throw new FailedError(`No node of the cluster has the slot of '${key}'`);
  return node;
}

async function ready(cluster: Cluster): Promise<void> {
  // A ping fails where no node can be connected; its reply is not waited for, as it may be that of a master that is away.
  if (cluster.status !== 'ready') await Promise.race([once(cluster, 'ready'), cluster.ping()]);
}
