import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { counted } from '../numbers.js';
import { listed } from '../streams.js';
import type { Finding } from './finding.js';
import type { Servers } from './servers.js';

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

const CHECK = 'consumer names';

interface Lease {
  readonly key: string;
  readonly node: Redis;
  /** Ids of processes, in the order in which they were seen. */
  readonly holders: string[];
}

/** Consumer names that two live processes have at the same time, on the servers that answer. */
export async function checkConsumerNames(servers: Servers, prefix: string): Promise<Finding[]> {
  try {
    return await findShared(servers, prefix);
  } catch (error) {
    // The user of an application needs no SCAN; the other checks still run.
    if (!(error instanceof Error && error.message.startsWith('NOPERM'))) throw error;
    const message = `not checked, because the user may not look for them: ${error.message}`;
    return [{ level: 'note', check: CHECK, subject: 'all groups', message }];
  }
}

async function findShared({ answering, isCluster }: Servers, prefix: string): Promise<Finding[]> {
  const leases = await leasesOf(answering, prefix);
  const watched = new Set(leases);
  const end = Date.now() + WATCHED_FOR;
  while (watched.size > 0 && Date.now() < end) {
    for (const lease of await refusedOf(watched, isCluster)) watched.delete(lease);
    await pause(Math.max(INTERVAL, watched.size * INTERVAL_PER_LEASE));
  }
  const shared = leases.filter(({ holders }) => holders.length > CHANGES_OF_TWO);
  const unwatched = leases.filter((lease) => !watched.has(lease));
  const findings = shared.map(({ key }) => sharedName(nameOf(key)));
  if (unwatched.length > 0) {
    findings.push({
      level: 'warning',
      check: CHECK,
      subject: listed(unwatched.map(({ key }) => nameOf(key))),
      message: 'not watched, because their node does not serve them',
    });
  }
  if (findings.length > 0) return findings;
  const message =
    leases.length === 0 ? 'none is in use' : `${counted(leases.length, 'name')}, each used by one process`;
  return [{ level: 'ok', check: CHECK, subject: 'all groups', message }];
}

/** Looks at each lease once. Returns those that a node of a cluster does not serve. */
async function refusedOf(leases: ReadonlySet<Lease>, isCluster: boolean): Promise<Lease[]> {
  const refused: Lease[] = [];
  const look = async (lease: Lease): Promise<void> => {
    try {
      const holder = await lease.node.get(lease.key);
      if (holder !== null && holder !== lease.holders.at(-1)) lease.holders.push(holder);
    } catch (error) {
      if (!isCluster) throw error;
      refused.push(lease);
    }
  };
  await Promise.all([...leases].map(look));
  return refused;
}

function sharedName(subject: string): Finding {
  return {
    level: 'warning',
    check: CHECK,
    subject,
    message: 'two processes read under this consumer name: both handle what is pending for it',
    advice: "give each process a name of its own, or leave out the option 'consumer'",
  };
}

/** Stream, group and consumer, which follow the kind of the key. */
function nameOf(key: string): string {
  return key.slice(key.indexOf('}:name:') + '}:name:'.length);
}

async function leasesOf(nodes: readonly Redis[], prefix: string): Promise<Lease[]> {
  const found = new Map<string, Lease>();
  const pattern = `${prefix.replace(/[\\?*[\]]/g, '\\$&')}nrs:{*}:name:*`;
  for (const node of nodes) {
    let cursor = '0';
    do {
      const [next, keys] = await node.scan(cursor, 'MATCH', pattern, 'COUNT', 1_000);
      for (const key of keys) found.set(key, { key, node, holders: [] });
      cursor = next;
    } while (cursor !== '0');
  }
  return [...found.values()];
}
