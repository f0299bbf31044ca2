import type { Command } from 'commander';
import { DEAD_LETTER_SUFFIX } from 'nestjs-redis-streams/engine';
import type { DeadLetterMessage, DeadLetterQuery, StreamManager } from 'nestjs-redis-streams/engine';
import { isEntryId } from './entries.js';
import { FailedError, UsageError } from './failure.js';
import { allPages } from './listing.js';
import { existingStream } from './streams.js';
import { TIME, timeOf } from './time.js';

/** The options that select dead letters. */
export interface DeadLetterFlags {
  dead?: string;
  reason?: string;
  group?: string;
  since?: string;
  until?: string;
}

const PAGE = 250;

export function addDeadLetterOptions(command: Command): Command {
  return command
    .option('--dead <stream>', 'the stream of dead letters (default: <key>.dead)')
    .option('--reason <text>', 'those whose reason or error contains this text')
    .option('--group <group>', 'those of this consumer group')
    .option('--since <time>', `those stored since this time: ${TIME}`)
    .option('--until <time>', 'those stored until this time');
}

/** @param dead the option `--dead` */
export function deadLetterStreamOf(key: string, dead: string | undefined): string {
  return dead ?? `${key}${DEAD_LETTER_SUFFIX}`;
}

export function hasFilter({ reason, group, since, until }: DeadLetterFlags): boolean {
  return [reason, group, since, until].some((value) => value !== undefined);
}

/** The dead letters of a stream that the flags describe, oldest first. @throws FailedError for a stream that does not exist */
export async function* deadLettersOf(
  manager: StreamManager,
  key: string,
  { dead, reason, group, since, until }: DeadLetterFlags,
): AsyncGenerator<DeadLetterMessage> {
  const query: DeadLetterQuery = {
    ...(dead !== undefined && { deadLetterStream: dead }),
    ...(reason !== undefined && { reason }),
    ...(group !== undefined && { group }),
    ...(since !== undefined && { since: timeOf('--since', since) }),
    ...(until !== undefined && { until: timeOf('--until', until) }),
  };
  let isEmpty = true;
  for await (const letter of allPages(PAGE, (page) => manager.deadLetters(key, { ...query, ...page }))) {
    isEmpty = false;
    yield letter;
  }
  if (isEmpty) await checkKey(manager, key, dead);
}

/** @throws FailedError for a key that cannot have dead letters: a mistyped key must not look like a stream without failures */
async function checkKey(manager: StreamManager, key: string, dead: string | undefined): Promise<void> {
  const place = await manager.info(deadLetterStreamOf(key, dead));
  if (place.shards.length > 0) return;
  await existingStream(manager, key);
  if (dead !== undefined || !key.endsWith(DEAD_LETTER_SUFFIX)) return;
  const stream = key.slice(0, -DEAD_LETTER_SUFFIX.length);
  throw new FailedError(
    `'${key}' holds dead letters and has none itself; name the stream that they are from: '${stream}'`,
  );
}

/**
 * The dead letters with these ids that the flags describe, or all that they describe. Only what `pick` takes of each stays in
 * memory.
 * @throws FailedError for an id that none has
 */
export async function pickDeadLetters<T>(
  manager: StreamManager,
  key: string,
  ids: readonly string[],
  flags: DeadLetterFlags,
  pick: (letter: DeadLetterMessage) => T,
): Promise<T[]> {
  const invalid = ids.find((id) => !isEntryId(id));
  if (invalid !== undefined) throw new UsageError(`The id of a dead letter is that of an entry; got '${invalid}'`);
  const wanted = new Set(ids);
  const missing = new Set(ids);
  const picked: T[] = [];
  for await (const letter of deadLettersOf(manager, key, flags)) {
    if (wanted.size > 0 && !wanted.has(letter.id)) continue;
    missing.delete(letter.id);
    picked.push(pick(letter));
    if (wanted.size > 0 && missing.size === 0) break;
  }
  const [absent] = missing;
  if (absent !== undefined) throw new FailedError(`The stream '${key}' has no dead letter ${absent}`);
  return picked;
}

/** The error that was thrown, else the reason. */
export function causeOf({ reason, error }: DeadLetterMessage): string | undefined {
  return error ? `${error.name}: ${error.message}` : reason;
}
