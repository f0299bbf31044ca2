import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

import type { RedisCluster } from '../test/support/redis-cluster.js';
import type { Sides } from './comparison.js';
import { LIBRARY_VARIABLE } from './library.js';
import type { Setting } from './row.js';

const WIRE_VARIABLE = 'NESTJS_REDIS_STREAMS_WIRE';

/** The library of this checkout, and that of another one, whose contenders are not used. */
export function checkoutSides(setting: Setting, other: string): Sides {
  const entry = resolve(other, '.run/lib/index.js');
  if (!existsSync(entry)) {
    throw new Error(`--against ${other}: there is no ${entry}; build that checkout with 'npx nest build'`);
  }
  return [
    { name: 'this', setting: partOf(setting, 'a') },
    { name: 'other', setting: partOf(setting, 'b'), env: { [LIBRARY_VARIABLE]: pathToFileURL(entry).href } },
  ];
}

/** With the library's own wire, and with ioredis for everything. */
export function wireSides(setting: Setting): Sides {
  const place = setting.cluster ? ', Cluster' : '';
  return [
    { name: `with${place}`, setting: partOf(setting, 'a'), env: { [WIRE_VARIABLE]: undefined } },
    { name: `without${place}`, setting: partOf(setting, 'b'), env: { [WIRE_VARIABLE]: 'ioredis' } },
  ];
}

/** The same streams on a cluster and on one server. */
export async function topologySides(setting: Setting, cluster: RedisCluster, streams: number): Promise<Sides> {
  const spread = await spreadOver(setting, cluster, streams);
  return [
    { name: 'three masters', setting: spread },
    { name: 'one server', setting: { ...setting, hashTags: spread.hashTags ?? [] } },
  ];
}

/** As many streams on each master, as far as their number allows. */
export async function spreadOver(setting: Setting, cluster: RedisCluster, streams: number): Promise<Setting> {
  return {
    ...setting,
    cluster: cluster.masters.map(({ server }) => server.url),
    hashTags: await cluster.keys('tag', streams),
  };
}

/** Two libraries on one server must not meet in one stream or group. */
function partOf(setting: Setting, part: string): Setting {
  return { ...setting, keyPrefix: `${setting.keyPrefix}${part}:` };
}
