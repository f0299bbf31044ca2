import { Cluster, Redis } from 'ioredis';

import type { ClusterConnection } from '../../lib/index.js';
import type { Setting } from '../row.js';

/** The option `connection` of the library. */
export function connectionOf({ url, cluster }: Setting): string | ClusterConnection {
  return cluster ? { cluster: [...cluster] } : url;
}

/** An ioredis client for the work that is not measured. */
export function openClient({ url, cluster }: Setting): Redis | Cluster {
  return cluster ? new Cluster([...cluster]) : new Redis(url);
}

/** The key of a contender that uses one stream. */
export function keyOf({ keyPrefix }: Setting, name: string): string {
  return `${keyPrefix}${name}`;
}

/** The keys of a contender that can spread its messages: one stream for each hash tag of the setting, else a single one. */
export function keysOf(setting: Setting, name: string): string[] {
  const key = keyOf(setting, name);
  return setting.hashTags?.map((tag) => `${key}:{${tag}}`) ?? [key];
}

/** Removes what a row has left behind, on the server or on every master of the cluster. Another benchmark may use the same server. */
export async function removeKeys({ url, cluster, keyPrefix }: Setting): Promise<void> {
  for (const server of cluster ?? [url]) {
    const redis = new Redis(server);
    for await (const keys of redis.scanStream({ match: `${keyPrefix}*`, count: 1_000 })) {
      // One command for each key: keys of a cluster may be in different slots.
      await Promise.all((keys as string[]).map((key) => redis.unlink(key)));
    }
    await redis.quit();
  }
}
