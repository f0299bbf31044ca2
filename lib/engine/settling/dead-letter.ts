import { HEADER_PREFIX } from '../../constants.js';
import { errorText } from '../../shared/error-text.js';
import { InvalidOptionError, PayloadDecodeError } from '../../errors.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import type { AppendCommands } from '../../redis/commands/stream-commands.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { StreamMessage } from '../messages/stream-message.js';

/** The stream for messages that cannot be processed. */
export interface DeadLetterOptions {
  /** Key of the stream of dead letters. Default `<stream>.dead`. */
  stream?: string;
  /** Trims the stream of dead letters to about this many entries. At least 1. Default: it is not trimmed. */
  maxLen?: number;
}

/** Names of the headers that a dead letter has in addition to those of its message. */
export const DEAD_LETTER_HEADERS = Object.freeze({
  stream: 'dead-letter-stream',
  key: 'dead-letter-key',
  id: 'dead-letter-id',
  group: 'dead-letter-group',
  consumer: 'dead-letter-consumer',
  deliveryCount: 'dead-letter-delivery-count',
  firstFailure: 'dead-letter-first-failure',
  lastFailure: 'dead-letter-last-failure',
  reason: 'dead-letter-reason',
  errorName: 'dead-letter-error-name',
  errorMessage: 'dead-letter-error-message',
  errorStack: 'dead-letter-error-stack',
});

/** Not `:dead`: other programs take every key `<stream>:…` for a shard of the stream. */
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
  readonly target: DeadLetterOptions;
}

const DEAD_LETTER_OPTIONS = optionNames<DeadLetterOptions>({ stream: true, maxLen: true });

/** @throws InvalidOptionError */
export function resolveDeadLetter(
  options: DeadLetterOptions | false | undefined,
  name = 'deadLetter',
): DeadLetterOptions | false {
  if (options === false) return false;
  if (options !== undefined && (typeof options !== 'object' || options === null)) {
    throw new InvalidOptionError(name, 'must be an object or false', options);
  }
  if (options) check.options(name, options, DEAD_LETTER_OPTIONS);
  const { stream, maxLen } = options ?? {};
  if (stream !== undefined) check.name(`${name}.stream`, stream);
  if (maxLen !== undefined) check.integer(`${name}.maxLen`, maxLen, 1);
  return options ?? {};
}

export function deadLetterStream(streamKey: string, target: DeadLetterOptions): string {
  return target.stream ?? streamKey + DEAD_LETTER_SUFFIX;
}

/**
 * Appends a message to its stream of dead letters, with its fields unchanged; returns the id of the dead letter.
 * @throws RedisStreamsError
 */
export async function storeDeadLetter(letter: DeadLetter, appending: Pick<AppendCommands, 'append'>): Promise<string> {
  const { message, target } = letter;
  const streamKey = deadLetterStream(message.streamKey, target);
  const fields: Array<string | Buffer> = [...StreamMessage.storedFieldsOf(message)];
  for (const [name, value] of Object.entries(describe(letter))) fields.push(HEADER_PREFIX + name, value);
  const [outcome] = (await appending.append(streamKey, [{ id: '*', fields }], { maxLen: target.maxLen })) ?? [];
  if (typeof outcome !== 'string') throw toPublicError(outcome, streamKey, 'writing a dead letter to');
  return outcome;
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
    headers[names.errorMessage] = error.message;
    // That of a payload which cannot be decoded leads through this package only.
    if (error.stack && !(error instanceof PayloadDecodeError)) headers[names.errorStack] = error.stack;
  } else if (error !== undefined) {
    headers[names.errorName] = typeof error;
    headers[names.errorMessage] = errorText(error);
  }
  return headers;
}
