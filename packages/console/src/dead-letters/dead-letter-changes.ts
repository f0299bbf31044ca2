import { entryId } from 'nestjs-redis-streams';
import type { DeadLetterMessage, DeadLetterOrigin, StreamManager } from 'nestjs-redis-streams';
import type { DeadLetterChanged } from '../api.js';
import { inTurns } from '../in-turns.js';
import type { StreamPolicy } from '../stream-policy.js';
import { deadLetterById, deadLettersOf } from './dead-letter-filter.js';
import type { DeadLetterSelection } from './dead-letter-filter.js';

/** Dead letters that are read at a time; only their ids stay in memory. */
const PAGE = 25;
const WIDTH = 8;

export interface DeadLetterWork {
  readonly manager: StreamManager;
  readonly policy: StreamPolicy;
  readonly selection: DeadLetterSelection;
  /** Undefined: all that the selection finds. */
  readonly ids: readonly string[] | undefined;
  /** The last dead letter that is meant; undefined: whatever the selection finds. */
  readonly upTo: string | undefined;
  readonly dryRun: boolean;
}

/** Puts dead letters back for the groups that they came from. @throws RedisStreamsError */
export async function redriveDeadLetters(work: DeadLetterWork): Promise<DeadLetterChanged> {
  const { manager, policy, selection, ids, dryRun } = work;
  const groups = new Groups(manager);
  // Headers of a dead letter may name any stream, and the message would be appended there.
  const { picked, asked, upTo } = await pick(
    work,
    async ({ origin }) => origin !== undefined && policy.allows(origin.key) && groups.has(origin),
  );
  if (picked.size === 0) return { changed: 0, skipped: asked, upTo };
  const { redriven } = await manager.redrive(selection.deadLetterStream, {
    // What is named is read alone; all that a filter finds, in one walk, which ends with the last of them.
    ...(ids ? { ids: [...picked] } : { filter: ({ id }) => picked.has(id), limit: picked.size }),
    dryRun,
  });
  return { changed: redriven, skipped: asked - redriven, upTo };
}

/** Deletes dead letters, and their messages with them; those without the headers of one are skipped. @throws RedisStreamsError */
export async function deleteDeadLetters(work: DeadLetterWork): Promise<DeadLetterChanged> {
  const { manager, selection, dryRun } = work;
  // A stream with the name of one of dead letters may be another, whose messages wait for their handlers.
  const { picked, asked, upTo } = await pick(work, ({ origin }) => origin !== undefined);
  if (dryRun) return { changed: picked.size, skipped: asked - picked.size, upTo };
  const { stream, deadLetterStream } = selection;
  const deleted = await inTurns([...picked], WIDTH, (id) => manager.removeDeadLetter(stream, id, { deadLetterStream }));
  const changed = deleted.filter((isDeleted) => isDeleted).length;
  return { changed, skipped: asked - changed, upTo };
}

interface Picked {
  readonly picked: Set<string>;
  readonly asked: number;
  /** The last dead letter that was found; null for ids. */
  readonly upTo: string | null;
}

async function pick(
  { manager, selection, ids, upTo }: DeadLetterWork,
  canBe: (letter: DeadLetterMessage) => boolean | Promise<boolean>,
): Promise<Picked> {
  const picked = new Set<string>();
  if (ids) {
    const wanted = [...new Set(ids)];
    await inTurns(wanted, WIDTH, async (id) => {
      const letter = await deadLetterById(manager, selection, id);
      if (letter && (await canBe(letter))) picked.add(id);
    });
    return { picked, asked: wanted.length, upTo: null };
  }
  let asked = 0;
  let last: string | null = null;
  for await (const letter of deadLettersOf(manager, selection, PAGE)) {
    if (upTo !== undefined && entryId.compare(letter.id, upTo) > 0) break;
    asked += 1;
    last = letter.id;
    if (await canBe(letter)) picked.add(letter.id);
  }
  return { picked, asked, upTo: last };
}

/** Which groups exist: of one that was removed, nothing can be redriven, and the dead letters of others can. */
class Groups {
  readonly #manager: StreamManager;
  readonly #names = new Map<string, Promise<ReadonlySet<string>>>();

  constructor(manager: StreamManager) {
    this.#manager = manager;
  }

  async has({ key, group }: DeadLetterOrigin): Promise<boolean> {
    const known = this.#names.get(key) ?? this.#look(key);
    this.#names.set(key, known);
    return (await known).has(group);
  }

  async #look(key: string): Promise<ReadonlySet<string>> {
    const { shards } = await this.#manager.info(key);
    const own = shards.find((shard) => shard.key === key);
    return new Set(own?.groups.map(({ name }) => name));
  }
}
