import { ID_BEFORE_ALL } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import { compareEntryIds, isEntryId, nextEntryId } from '../../redis/commands/entry-id.js';
import type { AppendCommands, ReadCommands, StreamEntry } from '../../redis/commands/stream-commands.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { EntryFormat } from '../messages/stream-message.js';
import { idsBetween } from './range-bound.js';
import { DEAD_LETTER_HEADERS, DEAD_LETTER_SUFFIX } from '../settling/dead-letter.js';

/** Where the dead letters of a stream are. */
export interface DeadLetterPlace {
  /**
   * The stream of dead letters, where the option `deadLetter.stream` of the server names one. It may have those of several streams: one
   * that names another stream as its origin does not count.
   * @defaultValue `<streamKey>.dead`, with all that it has
   */
  deadLetterStream?: string;
}

/** Which dead letters to list. */
export interface DeadLetterQuery extends DeadLetterPlace {
  /**
   * Only dead letters whose reason, or whose error (`TypeError: no stock`), contains this text. The reason of most is how often
   * they failed. Upper and lower case differ.
   * @defaultValue all
   */
  reason?: string;
  /**
   * Only dead letters of this consumer group.
   * @defaultValue all
   */
  group?: string;
  /**
   * Only dead letters that were stored at this time or later, by the clock of Redis.
   * @defaultValue the oldest
   */
  since?: Date;
  /**
   * Only dead letters that were stored at this time, in this millisecond, or earlier.
   * @defaultValue the newest
   */
  until?: Date;
  /**
   * Size of a page. At least 1, at most 10,000.
   * @defaultValue `100`
   */
  count?: number;
  /**
   * The id of a dead letter, to continue after it.
   * @defaultValue the oldest
   */
  after?: string;
}

/** The error that a handler threw. */
export interface DeadLetterError {
  /** Name of the error, `TypeError` for example. */
  readonly name: string;
  /** Its message. */
  readonly message: string;
  /** Its stack; undefined when it had none. */
  readonly stack: string | undefined;
}

/** Where a dead letter comes from, and where `StreamManager.redrive()` puts it back. */
export interface DeadLetterOrigin {
  /** The stream, without the number of a shard. */
  readonly streamKey: string;
  /** The key of the stream or shard. */
  readonly key: string;
  /** The id of the message in it. */
  readonly id: string;
  /** Name of the consumer group. */
  readonly group: string;
  /** Name of the consumer that gave up. */
  readonly consumer: string;
}

/** A message in a stream of dead letters. A field without a header is undefined: any program may append to the stream. */
export interface DeadLetterMessage {
  /** For {@link StreamManager.removeDeadLetter}. Not the id that the message had. */
  readonly id: string;
  /** For {@link StreamManager.redrive}. */
  readonly deadLetterStream: string;
  /** When it was stored, by the clock of Redis. */
  readonly timestamp: Date;
  /** Why the message was given up. */
  readonly reason: string | undefined;
  /** Undefined also when no error was thrown. */
  readonly error: DeadLetterError | undefined;
  /** Where it comes from. */
  readonly origin: DeadLetterOrigin | undefined;
  /** How often the message was delivered. */
  readonly deliveryCount: number | undefined;
  /** By the clock of the process that gave up. */
  readonly firstFailure: Date | undefined;
  /** By the clock of the process that gave up. */
  readonly lastFailure: Date | undefined;
  /** Payload of the message. */
  readonly payload: Buffer;
  /** All of them: those of the message, and those whose names are in `DEAD_LETTER_HEADERS`. */
  readonly headers: Readonly<Record<string, string>>;
}

type Headers = Readonly<Record<string, string>>;

export interface ResolvedPlace {
  readonly deadLetterStream: string;
  readonly isOfStream: (headers: Headers) => boolean;
}

/** A query whose options were checked. */
export interface ResolvedDeadLetterQuery extends ResolvedPlace {
  readonly since: Date | undefined;
  readonly until: Date | undefined;
  readonly after: string | undefined;
  readonly count: number;
  readonly matches: (headers: Headers) => boolean;
}

const PLACE = { deadLetterStream: true } as const;
const PLACE_NAMES = optionNames<DeadLetterPlace>(PLACE);
const QUERY_NAMES = optionNames<DeadLetterQuery>({
  ...PLACE,
  reason: true,
  group: true,
  since: true,
  until: true,
  count: true,
  after: true,
});

/** Entries of a page: few at first, then as many as have about these bytes. */
const FIRST_PAGE = 16;
const LARGEST_PAGE = 250;
const PAGE_BYTES = 1024 * 1024;

/** @throws InvalidOptionError */
export function resolveDeadLetterQuery(streamKey: string, query: DeadLetterQuery): ResolvedDeadLetterQuery {
  check.options('', query, QUERY_NAMES);
  const { reason, group, since, until, count = 100, after } = query;
  if (reason !== undefined) check.name('reason', reason);
  if (group !== undefined) check.name('group', group);
  if (since !== undefined) check.date('since', since);
  if (until !== undefined) check.date('until', until);
  if (since && until && since > until) throw new InvalidOptionError('until', "must not be before 'since'", until);
  check.integer('count', count, 1, 10_000);
  if (after !== undefined && !isEntryId(after)) throw new InvalidOptionError('after', 'must be an entry id', after);
  const place = placeOf(streamKey, query);
  const names = DEAD_LETTER_HEADERS;
  return {
    ...place,
    since,
    until,
    after,
    count,
    matches: (headers) =>
      place.isOfStream(headers) &&
      (reason === undefined || reasonsOf(headers).some((text) => text.includes(reason))) &&
      (group === undefined || headers[names.group] === group),
  };
}

/** @throws InvalidOptionError */
export function resolveDeadLetterPlace(streamKey: string, place: DeadLetterPlace): ResolvedPlace {
  check.options('', place, PLACE_NAMES);
  return placeOf(streamKey, place);
}

function placeOf(streamKey: string, { deadLetterStream }: DeadLetterPlace): ResolvedPlace {
  const own = streamKey + DEAD_LETTER_SUFFIX;
  if (deadLetterStream !== undefined) check.name('deadLetterStream', deadLetterStream);
  if (deadLetterStream === undefined || deadLetterStream === own) {
    return { deadLetterStream: own, isOfStream: () => true };
  }
  return {
    deadLetterStream,
    isOfStream: (headers) => (headers[DEAD_LETTER_HEADERS.stream] ?? streamKey) === streamKey,
  };
}

/** The later one of `first` and the id that follows `after`; undefined if none can follow it. */
function laterOf(first: string, after: string | undefined): string | undefined {
  if (after === undefined) return first;
  const next = nextEntryId(after);
  return next !== undefined && compareEntryIds(next, first) < 0 ? first : next;
}

/** Reads until the page is full. In memory are the dead letters of that page, and one page of entries of limited size. */
export async function listDeadLetters(
  { deadLetterStream, since, until, after, count, matches }: ResolvedDeadLetterQuery,
  reading: Pick<ReadCommands, 'range' | 'timestampFormat'>,
  format: EntryFormat,
): Promise<DeadLetterMessage[]> {
  const found: DeadLetterMessage[] = [];
  const bounds = { from: since?.getTime() ?? ID_BEFORE_ALL, to: until?.getTime() ?? '+' };
  const ids = await idsBetween(deadLetterStream, bounds, reading);
  const from = laterOf(ids.from, after);
  if (from === undefined) return found;
  const shard = { streamKey: deadLetterStream, shardId: 0, key: deadLetterStream };
  for await (const entry of entriesBetween(deadLetterStream, from, ids.to, reading, count)) {
    const message = StreamMessage.create(shard, entry, format);
    if (!matches(message.headers)) continue;
    found.push(describe(message));
    if (found.length === count) break;
  }
  return found;
}

/** False when there is none with that id, or one of another stream. */
export async function removeDeadLetter(
  { deadLetterStream, isOfStream }: ResolvedPlace,
  id: string,
  { reading, appending }: { reading: Pick<ReadCommands, 'range'>; appending: Pick<AppendCommands, 'remove'> },
  format: EntryFormat,
): Promise<boolean> {
  const [entry] = await reading.range(deadLetterStream, id, id, 1);
  const shard = { streamKey: deadLetterStream, shardId: 0, key: deadLetterStream };
  if (!entry || !isOfStream(StreamMessage.create(shard, entry, format).headers)) return false;
  return (await appending.remove(deadLetterStream, [entry.id])) > 0;
}

/** Where a message came from; undefined unless its headers tell all that is needed to put it back. */
export function originOf({ headers }: Pick<StreamMessage, 'headers'>): DeadLetterOrigin | undefined {
  const names = DEAD_LETTER_HEADERS;
  const [key, id, group, consumer] = [names.key, names.id, names.group, names.consumer].map((name) => headers[name]);
  // An entry that another program has written must not stop the others.
  if (!key || !id || !isEntryId(id) || !group || !consumer) return undefined;
  return { streamKey: headers[names.stream] ?? key, key, id, group, consumer };
}

/**
 * All entries from one id to another, oldest first, read in pages of limited size.
 * @param wanted how many may suffice, for the first page
 */
export async function* entriesBetween(
  streamKey: string,
  from: string,
  to: string,
  reading: Pick<ReadCommands, 'range'>,
  wanted = FIRST_PAGE,
): AsyncGenerator<StreamEntry> {
  let count = Math.min(wanted, FIRST_PAGE);
  for (let start: string | undefined = from; start !== undefined;) {
    const page = await reading.range(streamKey, start, to, count);
    yield* page;
    const last = page.at(-1);
    if (!last || page.length < count) return;
    start = nextEntryId(last.id);
    count = nextPageSize(page);
  }
}

function nextPageSize(page: readonly StreamEntry[]): number {
  const bytes = page.flatMap(({ fields }) => fields ?? []).reduce((sum, { length }) => sum + length, 0);
  return Math.min(LARGEST_PAGE, Math.max(1, Math.floor((PAGE_BYTES * page.length) / Math.max(1, bytes))));
}

function describe(message: StreamMessage): DeadLetterMessage {
  // The rest of its page must not stay in memory with it.
  StreamMessage.detach(message);
  const { id, streamKey, timestamp, payload, headers } = message;
  const names = DEAD_LETTER_HEADERS;
  return {
    id,
    deadLetterStream: streamKey,
    timestamp,
    reason: headers[names.reason],
    error: errorOf(headers),
    origin: originOf(message),
    deliveryCount: countOf(headers[names.deliveryCount]),
    firstFailure: dateOf(headers[names.firstFailure]),
    lastFailure: dateOf(headers[names.lastFailure]),
    payload,
    headers,
  };
}

function errorOf(headers: Headers): DeadLetterError | undefined {
  const names = DEAD_LETTER_HEADERS;
  const [name, message, stack] = [headers[names.errorName], headers[names.errorMessage], headers[names.errorStack]];
  if (name === undefined && message === undefined && stack === undefined) return undefined;
  return { name: name ?? 'Error', message: message ?? '', stack };
}

function reasonsOf(headers: Headers): string[] {
  const error = errorOf(headers);
  return [headers[DEAD_LETTER_HEADERS.reason] ?? '', error ? `${error.name}: ${error.message}` : ''];
}

function countOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

function dateOf(text: string | undefined): Date | undefined {
  const date = new Date(text ?? '');
  return Number.isNaN(date.getTime()) ? undefined : date;
}
