import { compareEntryIds } from '../../lib/redis/commands/entry-id.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { GROUP, lastDeliveredId } from './group-work.js';

/** The payloads in a stream right before a command ran. */
export interface Snapshot {
  /** Not yet delivered to the group. */
  readonly unread: readonly string[];
  /** Delivered to the group and not acknowledged. */
  readonly pending: readonly string[];
}

const MOST_PENDING = 10_000;

/**
 * Takes a snapshot of a stream and runs a command in one transaction, so that no other client can change the stream in
 * between.
 */
export async function snapshotAndRun(redis: RedisClient, streamKey: string, ...command: string[]): Promise<Snapshot> {
  const replies = await redis
    .multi([
      ['xrange', streamKey, '-', '+'],
      ['xinfo', 'GROUPS', streamKey],
      ['xpending', streamKey, GROUP, '-', '+', String(MOST_PENDING)],
      command,
    ])
    .exec();
  const [[, entries], [, groups], [, rows], [failure]] = replies as Array<[Error | null, unknown]> as [
    [null, Array<[string, string[]]>],
    [null, unknown],
    [null, Array<[string]> | undefined],
    [Error | null],
  ];
  if (failure) throw failure;
  const given = lastDeliveredId(groups) ?? '0-0';
  const pending = new Set(rows?.map(([id]) => id));
  const payloads = (isWanted: (id: string) => boolean): string[] =>
    entries.flatMap(([id, fields]) => (isWanted(id) ? (fields[1] as string) : []));
  return { unread: payloads((id) => compareEntryIds(id, given) > 0), pending: payloads((id) => pending.has(id)) };
}
