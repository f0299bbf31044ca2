import type { Redis } from 'ioredis';

import { compareEntryIds } from '../../lib/redis/commands/entry-id.js';
import { GROUP, lastGiven } from './group-work.js';

/** What stood in a stream at the moment at which it was struck, as payloads. */
export interface Snapshot {
  /** Not yet given to the group. */
  readonly unread: readonly string[];
  /** Given to it, and not acknowledged. */
  readonly pending: readonly string[];
}

const MOST_PENDING = 10_000;

/** Runs a command, and tells what nobody else can have changed in between. */
export async function snapshotAndRun(redis: Redis, streamKey: string, ...command: string[]): Promise<Snapshot> {
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
  const given = lastGiven(groups) ?? '0-0';
  const pending = new Set(rows?.map(([id]) => id));
  const payloads = (isWanted: (id: string) => boolean): string[] =>
    entries.flatMap(([id, fields]) => (isWanted(id) ? (fields[1] as string) : []));
  return { unread: payloads((id) => compareEntryIds(id, given) > 0), pending: payloads((id) => pending.has(id)) };
}
