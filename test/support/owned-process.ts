import type { Redis } from 'ioredis';

import { compareEntryIds } from '../../lib/redis/commands/entry-id.js';
import type { ChildProgram } from './child-program.js';
import { useChildProgram } from './child-program.js';

export interface OwnedChildInput {
  readonly name: string;
  readonly connection: string;
  /** The server of the central recorder. */
  readonly recorder: string;
  readonly stream: string;
  readonly shards: number;
  /** How far the clock of the process is wrong, in milliseconds. */
  readonly clock: number;
}

export type OwnedChildLine = { assigned: number } | { revoked: number } | { error: string };

/** A member of a group with owned shards, in a process of its own. */
export interface OwnedProcess extends ChildProgram {
  readonly owned: ReadonlySet<number>;
  readonly errors: readonly string[];
}

/** Returns a function that starts members; those that still run are killed after each test. */
export function useOwnedProcesses(): (input: OwnedChildInput) => Promise<OwnedProcess> {
  const start = useChildProgram<OwnedChildInput, OwnedChildLine>('./owned-child.ts');
  return async (input) => {
    const owned = new Set<number>();
    const errors: string[] = [];
    const child = await start(input, (line) => {
      if ('assigned' in line) owned.add(line.assigned);
      else if ('revoked' in line) owned.delete(line.revoked);
      else errors.push(line.error);
    });
    return { ...child, owned, errors };
  };
}

interface Recorded {
  readonly member: string;
  readonly shardId: number;
  readonly id: string;
  readonly token: string;
  readonly text: string;
}

/** What the central recorder has seen, in the order in which it happened. */
export interface RecordOfAll {
  /** Shard and id of what was handled, each once. */
  readonly handled: ReadonlySet<string>;
  /** Entries that were handled for the first time after a later one of their shard, or after a later one under the same token. */
  readonly disorder: readonly string[];
}

export async function readRecord(recorder: Redis): Promise<RecordOfAll> {
  const handled = new Set<string>();
  const disorder: string[] = [];
  const latest = new Map<string, string>();
  for (const line of await recorder.lrange('handled', 0, -1)) {
    const { member, shardId, id, token } = JSON.parse(line) as Recorded;
    const underToken = `${shardId} ${token}`;
    const isNew = !handled.has(`${shardId}/${id}`);
    const shards = isNew ? [String(shardId), underToken] : [underToken];
    for (const key of shards) {
      const before = latest.get(key);
      if (before !== undefined && compareEntryIds(id, before) <= 0) disorder.push(`${member} ${key}: ${before}, ${id}`);
      latest.set(key, id);
    }
    handled.add(`${shardId}/${id}`);
  }
  return { handled, disorder };
}

/** What the central recorder has seen of messages `<key>:<number>`. */
export class KeyRecord {
  /** How many messages of each key were handled. */
  readonly counts = new Map<string, number>();
  /** First handlings that did not follow the number before. */
  readonly disorder: string[] = [];
  readonly #recorder: Redis;
  #lines = 0;

  constructor(recorder: Redis) {
    this.#recorder = recorder;
  }

  /** Counts what was recorded since the last call. */
  async update(): Promise<void> {
    const lines = await this.#recorder.lrange('handled', this.#lines, -1);
    this.#lines += lines.length;
    for (const line of lines) this.#count(JSON.parse(line) as Recorded);
  }

  #count({ member, shardId, id, text }: Recorded): void {
    const [key = '', number] = text.split(':');
    const expected = this.counts.get(key) ?? 0;
    if (Number(number) === expected) this.counts.set(key, expected + 1);
    else if (Number(number) > expected) {
      this.disorder.push(`${member}: ${text} in place of ${expected}, ${shardId}/${id}`);
    }
  }
}
