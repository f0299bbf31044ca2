import { HEADER_PREFIX } from '../../constants.js';
import { errorText } from '../../shared/error-text.js';
import { InvalidOptionError, PayloadDecodeError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import type { AppendCommands } from '../../redis/commands/stream-commands.js';
import { check, optionNames } from '../../shared/option-checks.js';
import type { StreamMessage } from '../messages/stream-message.js';

/** The stream for messages that cannot be processed. */
export interface DeadLetterOptions {
  /**
   * Key of the stream of dead letters.
   * @defaultValue `<stream>.dead`
   */
  stream?: string;
  /**
   * About how many dead letters the stream keeps. Over that the oldest are deleted; the log has a warning of the first deletion. False
   * keeps all. At least 1.
   * @defaultValue `100_000`
   */
  maxLen?: number | false;
}

export interface ResolvedDeadLetter {
  /** Undefined: the default of each stream. */
  readonly stream: string | undefined;
  readonly maxLen: number | false;
}

/** A stream of dead letters is not trimmed with its stream, and any program that may append decides how many there are. */
const DEFAULT_MAX_LEN = 100_000;

/** Names of the headers that a dead letter has in addition to those of its message. */
export const DEAD_LETTER_HEADERS = Object.freeze({
  /** Key of the stream, without the number of a shard. */
  stream: 'dead-letter-stream',
  /** Key of the stream or shard from which it was read. */
  key: 'dead-letter-key',
  /** Id of the entry in it. */
  id: 'dead-letter-id',
  /** Name of the consumer group. */
  group: 'dead-letter-group',
  /** Name of the consumer that gave up. */
  consumer: 'dead-letter-consumer',
  /** How often the message was delivered. */
  deliveryCount: 'dead-letter-delivery-count',
  /** Time of the first failure, ISO 8601, by the clock of the consumer. */
  firstFailure: 'dead-letter-first-failure',
  /** Time of the last failure, ISO 8601, by the clock of the consumer. */
  lastFailure: 'dead-letter-last-failure',
  /** Why the message was given up. */
  reason: 'dead-letter-reason',
  /** Name of the last error. */
  errorName: 'dead-letter-error-name',
  /** Message of the last error. */
  errorMessage: 'dead-letter-error-message',
  /** Stack of the last error. */
  errorStack: 'dead-letter-error-stack',
});

/**
 * The stream of the dead letters of `orders` is `orders.dead`, unless an option names another. Not `:dead`: other programs take every key
 * `<stream>:…` for a shard of the stream.
 */
export const DEAD_LETTER_SUFFIX = '.dead';

/** A message that becomes a dead letter, and why. */
export interface DeadLetter {
  readonly message: StreamMessage;
  /** The key of the partition that it was read from. */
  readonly key: string;
  readonly group: string;
  readonly consumer: string;
  readonly reason: string;
  readonly error?: unknown;
  readonly firstFailure: Date;
  readonly target: ResolvedDeadLetter;
}

const DEAD_LETTER_OPTIONS = optionNames<DeadLetterOptions>({ stream: true, maxLen: true });

/** @throws InvalidOptionError */
export function resolveDeadLetter(
  options: DeadLetterOptions | false | undefined,
  name = 'deadLetter',
): ResolvedDeadLetter | false {
  if (options === false) return false;
  if (options !== undefined && (typeof options !== 'object' || options === null)) {
    throw new InvalidOptionError(name, 'must be an object or false', options);
  }
  if (options) check.options(name, options, DEAD_LETTER_OPTIONS);
  const { stream, maxLen = DEFAULT_MAX_LEN } = options ?? {};
  if (stream !== undefined) check.name(`${name}.stream`, stream);
  if (maxLen !== false) check.integer(`${name}.maxLen`, maxLen, 1);
  return { stream, maxLen };
}

/** Where a dead letter is. */
export interface StoredDeadLetter {
  readonly streamKey: string;
  readonly id: string;
  /** How many of the oldest dead letters were deleted for it, or why trimming failed; undefined where Redis does not tell. */
  readonly trimmed: number | RedisStreamsError | undefined;
}

/**
 * Appends a message to its stream of dead letters, with its fields unchanged, and deletes the oldest ones over the limit.
 * @throws RedisStreamsError
 */
export async function storeDeadLetter(
  letter: DeadLetter,
  appending: Pick<AppendCommands, 'appendTrimmed'>,
): Promise<StoredDeadLetter> {
  const { message, target } = letter;
  const streamKey = target.stream ?? message.streamKey + DEAD_LETTER_SUFFIX;
  const fields: Array<string | Buffer> = [...message.storedFields];
  for (const [name, value] of Object.entries(describe(letter))) fields.push(HEADER_PREFIX + name, value);
  const { outcome, trimmed } = await appending.appendTrimmed(streamKey, { id: '*', fields }, target.maxLen);
  if (typeof outcome !== 'string') throw toPublicError(outcome, streamKey, 'writing a dead letter to');
  const isFailed = trimmed instanceof Error;
  return { streamKey, id: outcome, trimmed: isFailed ? toPublicError(trimmed, streamKey, 'trimming') : trimmed };
}

function describe({ message, key, group, consumer, reason, error, firstFailure }: DeadLetter): Record<string, string> {
  const names = DEAD_LETTER_HEADERS;
  const headers: Record<string, string> = {
    [names.stream]: message.streamKey,
    [names.key]: key,
    [names.id]: message.id,
    [names.group]: group,
    [names.consumer]: consumer,
    [names.deliveryCount]: String(message.deliveryCount),
    [names.firstFailure]: firstFailure.toISOString(),
    [names.lastFailure]: new Date().toISOString(),
    [names.reason]: reason,
  };
  if (error instanceof Error) {
    headers[names.errorName] = error.name;
    headers[names.errorMessage] = errorText(error);
    // That of a payload which cannot be decoded leads through this package only.
    if (error.stack && !(error instanceof PayloadDecodeError)) headers[names.errorStack] = error.stack;
  } else if (error !== undefined) {
    headers[names.errorName] = typeof error;
    headers[names.errorMessage] = errorText(error);
  }
  return headers;
}
