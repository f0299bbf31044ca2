import { Cluster } from 'ioredis';
import type { Redis } from 'ioredis';
import { isCommandRefused, isReplyError, isUnanswered } from '../client-errors.js';
import { FailedError } from '../failure.js';
import { mastersOf } from '../server.js';
import type { Finding } from './finding.js';

type Info = ReadonlyMap<string, string>;

/** Milliseconds; a larger difference makes delays and deadlines wrong. */
const LARGEST_SKEW = 1_000;

const FEATURES: ReadonlyArray<readonly [major: number, minor: number, loss: string]> = [
  [6, 2, 'claims and trims by age need more commands'],
  [7, 0, 'the server does not count lag, and refuses ids in nanoseconds'],
  [7, 2, 'the time of the last message of a consumer is unknown, and WAITAOF is missing'],
];

export interface Servers {
  /** Those that hold keys. */
  readonly answering: readonly Redis[];
  readonly isCluster: boolean;
}

/**
 * Versions, eviction, persistence and clocks of all servers that hold keys. A master of a cluster that does not answer is a finding.
 * @throws FailedError if no master answers
 */
export async function checkServers(redis: Redis | Cluster): Promise<Servers & { findings: Finding[] }> {
  const isCluster = redis instanceof Cluster;
  const findings: Finding[] = [];
  const answering: Redis[] = [];
  for (const { address, client } of await mastersOf(redis)) {
    try {
      findings.push(...(client ? await checkServer(address, client) : [lostMaster(address)]));
      if (client) answering.push(client);
    } catch (error) {
      if (!isCluster || !(isUnanswered(error) || isReplyError(error))) throw error;
      findings.push(lostMaster(address, error));
    }
  }
  if (answering.length === 0) throw new FailedError('No master of the cluster answers');
  return { findings, answering, isCluster };
}

/** Whether the applications reach it is not known: the fault may be in the network, or this node may not know the user. */
function lostMaster(subject: string, error?: Error): Finding {
  const finding = { level: 'danger', check: 'server', subject } as const;
  if (isReplyError(error)) return { ...finding, message: `the master refuses commands: ${error.message}` };
  return {
    ...finding,
    message: 'the master does not answer this machine',
    advice: 'start it, or check the network; if it is lost: CLUSTER FAILOVER FORCE on one of its replicas',
  };
}

async function checkServer(subject: string, node: Redis): Promise<Finding[]> {
  const info = await infoOf(node);
  const clock = await checkClock(subject, node);
  if (info.size > 0) {
    const persistence = await checkPersistence(subject, node, info);
    return [
      checkVersion(subject, info),
      checkEviction(subject, info),
      ...persistence,
      ...checkRole(subject, info),
      clock,
    ];
  }
  const message = 'INFO is not permitted: version, eviction and persistence are unknown';
  const advice = 'run the doctor as a user with +info, and +config|get where possible';
  return [{ level: 'warning', check: 'server', subject, message, advice }, clock];
}

async function infoOf(node: Redis): Promise<Info> {
  const text = await node.info().catch((error: unknown) => {
    if (isCommandRefused(error)) return '';
    throw error;
  });
  return new Map(
    text.split('\r\n').flatMap((line) => {
      const at = line.indexOf(':');
      return at > 0 ? [[line.slice(0, at), line.slice(at + 1)] as const] : [];
    }),
  );
}

function checkVersion(subject: string, info: Info): Finding {
  const valkey = info.get('valkey_version');
  const name = valkey === undefined ? `Redis ${info.get('redis_version')}` : `Valkey ${valkey}`;
  const [major = 0, minor = 0] = (valkey ?? info.get('redis_version') ?? '').split('.').map(Number);
  const isBelow = ([wanted, wantedMinor]: (typeof FEATURES)[number]): boolean =>
    major < wanted || (major === wanted && minor < wantedMinor);
  const missing = valkey === undefined ? FEATURES.filter(isBelow) : [];
  const check = 'version';
  if (missing.length === 0) return { level: 'ok', check, subject, message: `${name} has all features` };
  return {
    level: 'note',
    check,
    subject,
    message: `${name}: ${missing.map(([, , loss]) => loss).join('; ')}`,
    advice: 'the library works without these features; Redis 7.2 or later has them',
  };
}

function checkEviction(subject: string, info: Info): Finding {
  const policy = info.get('maxmemory_policy') ?? 'unknown';
  const limit = Number(info.get('maxmemory') ?? 0);
  const limited = limit > 0 ? `with a limit of ${info.get('maxmemory_human')}` : 'though no limit is set now';
  const check = 'eviction';
  if (policy.startsWith('allkeys')) {
    return {
      level: 'danger',
      check,
      subject,
      message: `maxmemory-policy is ${policy}, ${limited}: whole streams are deleted when memory is short`,
      advice: 'CONFIG SET maxmemory-policy noeviction, also in the configuration file of the server',
    };
  }
  if (policy.startsWith('volatile')) {
    return {
      level: 'warning',
      check,
      subject,
      message: `maxmemory-policy is ${policy}, ${limited}: streams stay, but keys with an expiry can be deleted (deduplication, leases, inboxes)`,
      advice: 'CONFIG SET maxmemory-policy noeviction, or keep streams on a server of their own',
    };
  }
  return { level: 'ok', check, subject, message: `maxmemory-policy is ${policy}` };
}

async function checkPersistence(subject: string, node: Redis, info: Info): Promise<Finding[]> {
  const check = 'persistence';
  const findings: Finding[] = [];
  if (info.get('aof_last_write_status') === 'err' || info.get('rdb_last_bgsave_status') === 'err') {
    findings.push({
      level: 'danger',
      check,
      subject,
      message: 'the last attempt to write to disk failed',
      advice: 'look at the log of the server and at the free space on its disk',
    });
  }
  if (info.get('aof_enabled') === '1') {
    return [...findings, { level: 'ok', check, subject, message: 'the append-only file is on' }];
  }
  const snapshots = await configOf(node, 'save');
  const advice = 'CONFIG SET appendonly yes, also in the configuration file of the server';
  if (snapshots === '') {
    const message = 'neither the append-only file nor snapshots are on: a restart loses all messages';
    return [...findings, { level: 'danger', check, subject, message, advice }];
  }
  const message =
    snapshots === undefined
      ? 'the append-only file is off, and whether snapshots are taken is unknown (CONFIG GET is not permitted)'
      : `only snapshots are on (${snapshots}): a crash loses the messages since the last one`;
  return [...findings, { level: 'warning', check, subject, message, advice }];
}

/** A value of the configuration; undefined if CONFIG GET is not permitted. */
async function configOf(node: Redis, name: string): Promise<string | undefined> {
  try {
    const reply: unknown = await node.call('CONFIG', 'GET', name);
    const values = Array.isArray(reply) ? (reply as unknown[]) : Object.entries(Object(reply) as object).flat();
    return typeof values[1] === 'string' ? values[1] : undefined;
  } catch (error) {
    // Managed services have no CONFIG.
    if (isCommandRefused(error)) return undefined;
    throw error;
  }
}

function checkRole(subject: string, info: Info): Finding[] {
  if (info.get('role') !== 'slave') return [];
  const message = 'this server is a replica, which accepts no writes';
  return [{ level: 'warning', check: 'role', subject, message, advice: 'use the address of its master' }];
}

async function checkClock(subject: string, node: Redis): Promise<Finding> {
  const check = 'clock';
  try {
    const before = Date.now();
    const [seconds, microseconds] = await node.time();
    const after = Date.now();
    const time = Number(seconds) * 1_000 + Number(microseconds) / 1_000;
    const skew = time < before ? time - before : Math.max(0, time - after);
    const message = `the clock differs from that of this machine by ${Math.abs(Math.round(skew))} ms`;
    if (Math.abs(skew) <= LARGEST_SKEW) return { level: 'ok', check, subject, message };
    const advice = 'synchronise both clocks with NTP: --since 10m is computed on this machine, ids on the server';
    return { level: 'warning', check, subject, message, advice };
  } catch (error) {
    if (isCommandRefused(error))
      return { level: 'note', check, subject, message: 'the clock is unknown: TIME is not permitted' };
    throw error;
  }
}
