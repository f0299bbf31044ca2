import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import { isUnanswered } from '../client-errors.js';
import { addressOf } from '../server.js';
import type { Finding } from './finding.js';
import type { Servers } from './servers.js';

interface Need {
  readonly level: 'warning' | 'note';
  readonly purpose: string;
  /** Calls on a key that does not exist, which change nothing. */
  readonly calls: ReadonlyArray<(key: string) => readonly [command: string, ...args: string[]]>;
}

const CHECK = 'permissions';

const NEEDS: readonly Need[] = [
  {
    level: 'warning',
    purpose: 'reading',
    calls: [
      (key) => ['XRANGE', key, '-', '+', 'COUNT', '1'],
      (key) => ['XREAD', 'COUNT', '1', 'STREAMS', key, '$'],
      (key) => ['XLEN', key],
      (key) => ['XINFO', 'STREAM', key],
    ],
  },
  {
    level: 'warning',
    purpose: 'consumer groups',
    calls: [
      (key) => ['XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '1', 'STREAMS', key, '>'],
      (key) => ['XACK', key, 'g', '0-1'],
      (key) => ['XPENDING', key, 'g', '-', '+', '1'],
      (key) => ['XCLAIM', key, 'g', 'c', '0', '0-1'],
      (key) => ['XGROUP', 'SETID', key, 'g', '$'],
    ],
  },
  {
    level: 'warning',
    purpose: 'sending and dead letters',
    calls: [
      (key) => ['XADD', key, 'NOMKSTREAM', '*', 'msg', ''],
      (key) => ['XDEL', key, '0-1'],
      (key) => ['XTRIM', key, 'MAXLEN', '0'],
    ],
  },
  {
    level: 'warning',
    purpose: 'delayed messages, deduplication, exactly-once and trimming',
    calls: [(key) => ['EVAL', 'return 1', '1', key]],
  },
  {
    level: 'note',
    purpose: 'speed and diagnostics',
    calls: [
      () => ['TIME'],
      () => ['CLIENT', 'ID'],
      (key) => ['TYPE', key],
      (key) => ['MEMORY', 'USAGE', key],
      () => ['SCAN', '0', 'COUNT', '1'],
    ],
  },
];

/**
 * Which commands the user may not use, found by calling each on a key that does not exist. A node of a cluster looks at permissions
 * before it looks where the key is, and has users of its own.
 */
export async function checkPermissions(
  { answering, isCluster }: Servers,
  user: string,
  prefix: string,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const node of answering) {
    const subject = isCluster ? `${user} at ${addressOf(node)}` : user;
    for (const { level, purpose, calls } of NEEDS) {
      const refused = await refusedOf(node, calls, prefix);
      if (refused.length === 0) continue;
      findings.push({
        level,
        check: CHECK,
        subject,
        message: `${refused.join(', ')} not permitted: needed for ${purpose}`,
        advice: `ACL SETUSER ${user} ${refused.map((name) => `+${name.toLowerCase().replace(' ', '|')}`).join(' ')}`,
      });
    }
  }
  if (findings.length > 0) return findings;
  return [{ level: 'ok', check: CHECK, subject: user, message: 'all commands are permitted' }];
}

/** Names of the commands that the user may not use. */
async function refusedOf(node: Redis, calls: Need['calls'], prefix: string): Promise<string[]> {
  const key = `${prefix}nrs-doctor-${randomUUID()}`;
  const refused: string[] = [];
  for (const call of calls) {
    const [command, ...args] = call(key);
    if (await isRefused(node, command, args)) refused.push(nameOf(command, args));
  }
  return refused;
}

async function isRefused(node: Redis, command: string, args: readonly string[]): Promise<boolean> {
  try {
    await node.call(command, ...args);
    return false;
  } catch (error) {
    if (isUnanswered(error)) throw error;
    // After other errors, such as NOGROUP or MOVED, the command is permitted. A refusal of the key says nothing about other keys.
    return error instanceof Error && /^NOPERM\b.*\b(?:command|subcommand)\b/i.test(error.message);
  }
}

function nameOf(command: string, [first]: readonly string[]): string {
  return ['XINFO', 'XGROUP', 'CLIENT', 'MEMORY'].includes(command) ? `${command} ${first}` : command;
}
