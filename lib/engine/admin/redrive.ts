import { HEADER_PREFIX, KEY_HEADER } from '../../constants.js';
import type { LayoutCommands } from '../../redis/commands/layouts.js';
import { isShardClosed, toPublicError } from '../../redis/commands/redis-error.js';
import type {
  AppendCommands,
  PendingCommands,
  ReadCommands,
  StreamEntry,
} from '../../redis/commands/stream-commands.js';
import { StreamMessage, shardKey } from '../messages/stream-message.js';
import type { EntryFormat } from '../messages/stream-message.js';
import { fnv1a } from '../producing/sharder.js';
import { DEAD_LETTER_HEADERS } from '../settling/dead-letter.js';
import { settledLayouts } from '../sharding/layout-changes.js';
import { entriesBetween, originOf } from './dead-letters.js';
import type { DeadLetterOrigin } from './dead-letters.js';

/** Header of an entry that was appended again for one group; servers of other groups acknowledge it without handling it. */
export const REDRIVE_GROUP_HEADER = 'redrive-group';

/** Which dead letters {@link StreamManager.redrive} returns. */
export interface RedriveOptions {
  /**
   * The ids of dead letters, which are read alone; one that does not exist counts as skipped.
   * @defaultValue all
   */
  ids?: readonly string[];
  /**
   * Which dead letters to return.
   * @defaultValue all
   */
  filter?: (deadLetter: StreamMessage) => boolean | Promise<boolean>;
  /**
   * Most dead letters to return. At least 1.
   * @defaultValue no limit
   */
  limit?: number;
  /**
   * Counts, and changes nothing.
   * @defaultValue `false`
   */
  dryRun?: boolean;
}

/** What {@link StreamManager.redrive} did. */
export interface RedriveResult {
  /** Dead letters that were returned; with `dryRun`, that would be. */
  readonly redriven: number;
  /** Dead letters that are not there, that the filter excluded, whose headers name no origin, or whose message is not acknowledged yet. */
  readonly skipped: number;
}

export interface RedriveCommands {
  readonly reading: Pick<ReadCommands, 'range'>;
  readonly appending: Pick<AppendCommands, 'append' | 'remove'>;
  readonly pending: Pick<PendingCommands, 'forcePending' | 'isPending'>;
  readonly layouts: LayoutCommands;
}

/** Longer than any reasonable claim idle, so that the next scan claims the entry: 30 days in milliseconds. */
const LONG_IDLE = 30 * 24 * 3_600_000;

/**
 * Returns dead letters to the group that they came from, and to no other: the original entry becomes pending in that group
 * again. If it has been trimmed, the message is appended again, with a header that names the group. Each dead letter is
 * removed afterwards, so that a crash between the two steps repeats a message and loses none.
 */
export async function redrive(
  deadLetterStream: string,
  { ids, filter = () => true, limit = Infinity, dryRun = false }: RedriveOptions,
  commands: RedriveCommands,
  format: EntryFormat,
): Promise<RedriveResult> {
  const shard = { streamKey: deadLetterStream, shardId: 0, key: deadLetterStream };
  let [redriven, skipped] = [0, 0];
  const entries = ids
    ? entriesWithIds(deadLetterStream, ids, commands.reading)
    : entriesBetween(deadLetterStream, '-', '+', commands.reading);
  for await (const entry of entries) {
    if (redriven >= limit) break;
    if (!entry) {
      skipped += 1;
      continue;
    }
    const message = StreamMessage.create(shard, entry, format);
    const origin = originOf(message);
    // An entry that is still pending is about to be acknowledged, which would undo the redrive.
    if (!origin || !(await filter(message)) || (await isPending(origin, commands))) {
      skipped += 1;
      continue;
    }
    if (!dryRun) {
      await putBack(message, origin, commands);
      await commands.appending.remove(deadLetterStream, [message.id]);
    }
    redriven += 1;
  }
  return { redriven, skipped };
}

async function* entriesWithIds(
  streamKey: string,
  ids: readonly string[],
  reading: RedriveCommands['reading'],
): AsyncGenerator<StreamEntry | undefined> {
  for (const id of new Set(ids)) yield (await reading.range(streamKey, id, id, 1))[0];
}

async function isPending({ key, id, group }: DeadLetterOrigin, { pending }: RedriveCommands): Promise<boolean> {
  try {
    return await pending.isPending(key, group, id);
  } catch (error) {
    throw toPublicError(error, key, 'returning a dead letter to');
  }
}

async function putBack(message: StreamMessage, origin: DeadLetterOrigin, commands: RedriveCommands): Promise<void> {
  const { key, id, group, consumer } = origin;
  const [original] = await commands.reading.range(key, id, id, 1);
  if (original) return commands.pending.forcePending(key, group, consumer, [id], LONG_IDLE);
  const marked = [...originalFields(message), HEADER_PREFIX + REDRIVE_GROUP_HEADER, group];
  const append = async (to: string): Promise<unknown> =>
    (await commands.appending.append(to, [{ id: '*', fields: marked }], {}))?.[0];
  let to = key;
  let outcome = await append(to);
  if (isShardClosed(outcome)) {
    to = await openShardFor(message, origin, commands);
    outcome = await append(to);
  }
  if (typeof outcome !== 'string') throw toPublicError(outcome, to, 'returning a dead letter to');
}

/** The key of the shard to which a message of a closed one is sent now. */
async function openShardFor(
  { id, headers }: StreamMessage,
  { streamKey, key }: DeadLetterOrigin,
  { layouts }: RedriveCommands,
): Promise<string> {
  const last = (await settledLayouts(streamKey, layouts)).at(-1);
  if (!last) return key;
  const shard = fnv1a(headers[KEY_HEADER] ?? id) % last.shards;
  return shardKey(streamKey, last.first + shard, true);
}

/** The fields of the message without the headers of its dead letter. Other programs write them in any order. */
function originalFields({ storedFields: stored }: StreamMessage): Buffer[] {
  const nameAt = (index: number): string => String(stored[index - (index % 2)]);
  const first = HEADER_PREFIX + DEAD_LETTER_HEADERS.stream;
  const sets = stored.flatMap((_, index) => (index % 2 === 0 && nameAt(index) === first ? [index] : []));
  // It was a dead letter before: this package appends the headers of the last time, beginning with this one.
  if (sets.length > 1) return stored.slice(0, sets.at(-1));
  const own = new Set(Object.values(DEAD_LETTER_HEADERS).map((name) => HEADER_PREFIX + name));
  return stored.filter((_, index) => !own.has(nameAt(index)));
}
