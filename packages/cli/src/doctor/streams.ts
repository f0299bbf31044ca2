import { DEAD_LETTER_SUFFIX } from 'nestjs-redis-streams/engine';
import type { GroupDetails, StreamDetails, StreamManager } from 'nestjs-redis-streams/engine';
import { counted } from '../numbers.js';
import { detailsOf, listed } from '../streams.js';
import { readableDuration } from '../time.js';
import type { Finding } from './finding.js';

export interface StreamLimits {
  /** Milliseconds without a read after which a group counts as dead. */
  readonly deadAfter: number;
  /** Pending entries of a group above which there is a warning. */
  readonly maxPending: number;
}

/** Dead groups, long pending lists and dead letters of streams. */
export async function checkStreams(
  manager: StreamManager,
  keys: readonly string[],
  limits: StreamLimits,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  let groups = 0;
  const unreachable = new Set<string>();
  const { found, refused } = await detailsOf(manager, keys, { skipUnreachable: true });
  for (const details of found) {
    const key = details.streamKey;
    groups += details.groups.length;
    for (const missing of details.unreachable ?? []) unreachable.add(missing);
    for (const group of details.groups) {
      findings.push(...checkGroup(key, group, limits), ...(await checkPending(manager, details, group, limits)));
    }
    if (key.endsWith(DEAD_LETTER_SUFFIX) && details.length > 0) {
      const stream = key.slice(0, -DEAD_LETTER_SUFFIX.length);
      findings.push({
        level: 'note',
        check: 'dead letters',
        subject: key,
        message: counted(details.length, 'dead letter'),
        advice: `nrs dead ls ${stream}`,
      });
    }
  }
  if (refused.length > 0) {
    findings.push({
      level: 'warning',
      check: 'permissions',
      subject: listed(refused),
      message: 'the user may not read them: their groups are not checked',
      advice: 'run the doctor as another user, or permit the keys: ACL SETUSER … %R~<key>',
    });
  }
  if (unreachable.size > 0) {
    findings.push({
      level: 'warning',
      check: 'groups',
      subject: listed([...unreachable]),
      message: 'not checked, if they exist, because their node does not serve them',
    });
  }
  if (findings.some(({ level }) => level === 'warning')) return findings;
  const message = `${counted(groups, 'group')} of ${counted(found.length, 'stream')}: none is dead or has too many pending entries`;
  return [...findings, { level: 'ok', check: 'groups', subject: 'streams', message }];
}

function checkGroup(key: string, group: GroupDetails, { deadAfter }: StreamLimits): Finding[] {
  const { name, consumers, lagSeconds, pending, isPaused } = group;
  const subject = `${name} of ${key}`;
  const [check, level] = ['groups', 'warning'] as const;
  if (isPaused) {
    const advice = `nrs resume ${key} ${name} ends the pause`;
    return [{ level: 'note', check, subject, message: 'the group is paused', advice }];
  }
  const idle = Math.min(...consumers.map((consumer) => consumer.idle));
  const age = consumers.length > 0 ? idle : (lagSeconds ?? 0) * 1_000;
  if (age < deadAfter || (pending === 0 && lagSeconds === 0)) return [];
  const seen =
    consumers.length > 0 ? 'its last consumer was seen' : 'it has no consumer, and its next message has waited';
  return [
    {
      level,
      check,
      subject,
      message: `the group is dead: ${seen} ${readableDuration(age)}${consumers.length > 0 ? ' ago' : ''}; what it has not acknowledged stays in the stream`,
      advice: `start its service, or remove it: XGROUP DESTROY ${key} ${name}`,
    },
  ];
}

async function checkPending(
  manager: StreamManager,
  { streamKey, shards }: StreamDetails,
  { name, pending }: GroupDetails,
  { maxPending }: StreamLimits,
): Promise<Finding[]> {
  if (pending <= maxPending) return [];
  let oldest = 0;
  for (const { key, groups } of shards) {
    if (!groups.some((group) => group.name === name)) continue;
    const [first] = await manager.pending(key, name, { count: 1 });
    oldest = Math.max(oldest, first?.idle ?? 0);
  }
  return [
    {
      level: 'warning',
      check: 'pending',
      subject: `${name} of ${streamKey}`,
      message: `${counted(pending, 'pending entry', 'pending entries')}, the first idle for ${readableDuration(oldest)}`,
      advice: `nrs pending ${streamKey} ${name} lists them; a consumer does not acknowledge, or there are too few consumers`,
    },
  ];
}
