import { setTimeout as pause } from 'node:timers/promises';
import type { Cluster, Redis } from 'ioredis';
import { counted } from '../numbers.js';
import type { Finding } from './finding.js';

/**
 * Milliseconds. A consumer writes its id to the lease of its name every 3 s, so the ids of two processes alternate within this
 * time, unless they write at nearly the same moment.
 */
const WATCHED_FOR = 8_000;
const INTERVAL = 25;
/** Milliseconds of the interval for each lease, so that many leases do not load the server. */
const INTERVAL_PER_LEASE = 0.5;
/** One change of the id can be a restart; an id that returns cannot. */
const CHANGES_OF_TWO = 2;

/**
 * Consumer names that two live processes have at the same time.
 * @param masters those that answer
 */
export async function checkConsumerNames(
  redis: Redis | Cluster,
  masters: readonly Redis[],
  prefix: string,
): Promise<Finding[]> {
  const leases = await leasesOf(masters, prefix);
  const check = 'consumer names';
  const changes = new Map(leases.map((lease) => [lease, [] as string[]]));
  const end = leases.length > 0 ? Date.now() + WATCHED_FOR : 0;
  while (Date.now() < end) {
    const holders = await Promise.all(leases.map((lease) => redis.get(lease)));
    for (const [index, lease] of leases.entries()) {
      const seen = changes.get(lease);
      const holder = holders[index];
      if (typeof holder === 'string' && holder !== seen?.at(-1)) seen?.push(holder);
    }
    await pause(Math.max(INTERVAL, leases.length * INTERVAL_PER_LEASE));
  }
  const shared = [...changes].filter(([, holders]) => holders.length > CHANGES_OF_TWO);
  if (shared.length === 0) {
    const message =
      leases.length === 0 ? 'none is in use' : `${counted(leases.length, 'name')}, each used by one process`;
    return [{ level: 'ok', check, subject: 'all groups', message }];
  }
  return shared.map(([lease]) => ({
    level: 'warning',
    check,
    // Stream, group and consumer follow the kind of the key.
    subject: lease.slice(lease.indexOf('}:name:') + '}:name:'.length),
    message: 'two processes read under this consumer name: both handle what is pending for it',
    advice: "give each process a name of its own, or leave out the option 'consumer'",
  }));
}

async function leasesOf(masters: readonly Redis[], prefix: string): Promise<string[]> {
  const found = new Set<string>();
  const pattern = `${prefix.replace(/[\\?*[\]]/g, '\\$&')}nrs:{*}:name:*`;
  for (const node of masters) {
    let cursor = '0';
    do {
      const [next, keys] = await node.scan(cursor, 'MATCH', pattern, 'COUNT', 1_000);
      for (const key of keys) found.add(key);
      cursor = next;
    } while (cursor !== '0');
  }
  return [...found];
}
