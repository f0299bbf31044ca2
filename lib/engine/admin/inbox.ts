import { randomUUID } from 'node:crypto';

import { monotonicNow } from '../../shared/clock.js';
import {
  GroupMissingError,
  InvalidOptionError,
  RedisStreamsError,
  ServerReplyError,
  StreamMissingError,
  WrongTypeError,
} from '../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { classifyRedisError, isTransient, replyWord, toPublicError } from '../../redis/commands/redis-error.js';
import type { InboxCommands, InboxRecord, RedisEffect } from '../../redis/commands/stream-commands.js';
import { errorText } from '../../shared/error-text.js';
import { check, optionNames } from '../../shared/option-checks.js';
import { StreamMessage } from '../messages/stream-message.js';

/** Options of {@link RedisStreamer.createInbox}. */
export interface InboxOptions {
  /**
   * How long a record is kept, in milliseconds. It must be longer than any message stays pending; more costs memory. At least 1,000.
   * @defaultValue `604_800_000` (a week)
   */
  ttl?: number;
}

const DEFAULT_TTL = 604_800_000;
/** What a script of Redis can pass on in one call, with some room. */
const MAX_COMMAND_WORDS = 7_000;
const INBOX_OPTIONS = optionNames<InboxOptions>({ ttl: true });

/**
 * A key that is the same for every delivery of the message to the group, and different for every other message. For a unique
 * column in the database that the handler writes to, in the same transaction.
 * @example
 * ```ts
 * const key = idempotencyKey(context.getMessage(), 'billing');
 * await sql`INSERT INTO payments (key, amount) VALUES (${key}, ${order.amount}) ON CONFLICT DO NOTHING`;
 * ```
 */
export function idempotencyKey(message: StreamMessage, group: string): string {
  return `${group}:${StreamMessage.shardOf(message).key}:${message.id}`;
}

/**
 * Records in Redis which messages a group has handled, so that a message that is delivered again is not handled again (the
 * idempotent consumer pattern). A crash before the record is made repeats the work, unless its effects are Redis commands
 * that run in one step with the record.
 * @example
 * ```ts
 * const inbox = streamer.createInbox('billing', { ttl: 86_400_000 });
 * await inbox.once(message, () => mailer.send(message.json()));
 * ```
 */
export class Inbox {
  readonly #commands: InboxCommands;
  readonly #group: string;
  readonly #ttl: number;
  readonly #timeout: number;

  /** @internal */
  static create(commands: InboxCommands, group: string, options: InboxOptions, timeout: number): Inbox {
    return new Inbox(commands, group, options, timeout);
  }

  private constructor(commands: InboxCommands, group: string, options: InboxOptions, timeout: number) {
    check.options('', options, INBOX_OPTIONS);
    const { ttl = DEFAULT_TTL } = options;
    check.name('group', group);
    check.integer('ttl', ttl, 1_000);
    this.#commands = commands;
    this.#group = group;
    this.#ttl = ttl;
    this.#timeout = timeout;
  }

  /**
   * Runs `work` unless the group has handled the message; returns false when it has. An error of `work` is rethrown, and
   * nothing is recorded.
   *
   * Redis runs the commands that `work` returns in one step with the record, so that they take effect exactly once. They are
   * sent unchanged, without a key prefix; in Cluster their keys must be in the slot of the stream or shard. If Redis refuses one of them,
   * those before it have taken effect and the record is not made, as in a MULTI. A command has at most 7,000 words.
   *
   * @throws InvalidOptionError; ServerReplyError for a command that Redis refuses; UnsupportedOperationError for commands where
   * scripts are not permitted; RedisStreamsError when Redis cannot be reached within `timeout`
   * @example
   * ```ts
   * // The counter is increased exactly once for each message.
   * await inbox.once(message, async () => [['INCR', '{orders}:count']]);
   * ```
   */
  async once(message: StreamMessage, work: () => Promise<readonly RedisEffect[] | void>): Promise<boolean> {
    if (!(message instanceof StreamMessage)) {
      throw new InvalidOptionError('message', 'must be a StreamMessage', message);
    }
    // By the key of the shard: a stream that has been sharded since has its own shard 0 beside `<stream>:0`.
    const record = { streamKey: StreamMessage.shardOf(message).key, group: this.#group, id: message.id };
    if (await this.#persist(record.streamKey, () => this.#commands.isRecorded(record))) return false;
    const effects: unknown = await work();
    // Any other result means no commands.
    return this.#record(record, Array.isArray(effects) ? effects.map(effectOf) : []);
  }

  /** The token distinguishes our own record, whose reply was lost, from the record of another process that got the message. */
  async #record(record: InboxRecord, effects: readonly RedisEffect[]): Promise<boolean> {
    const token = randomUUID();
    try {
      return await this.#persist(record.streamKey, () => this.#commands.record(record, token, this.#ttl, effects));
    } catch (error) {
      const isOfEffect = [WrongTypeError, GroupMissingError, StreamMissingError].some((kind) => error instanceof kind);
      if (!isOfEffect || effects.length === 0) throw error;
      // Its own text blames the stream, and a command may be for any key.
      const { cause } = error as Error;
      const text = `Redis refused a command of once(): ${errorText(cause)}`;
      throw new ServerReplyError(text, replyWord(cause) ?? 'ERR', false, cause);
    }
  }

  /** Repeats a step through outages until `timeout`; both steps may be repeated. */
  async #persist<T>(streamKey: string, step: () => Promise<T>): Promise<T> {
    const deadline = monotonicNow() + this.#timeout;
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await step();
      } catch (error) {
        const canPass = error instanceof RedisStreamsError ? error.retryable : isTransient(classifyRedisError(error));
        if (!canPass || monotonicNow() >= deadline) {
          throw toPublicError(error, streamKey, 'recording a message of');
        }
        await pause(backoffDelay(RECONNECT_BACKOFF, attempt));
      }
    }
  }
}

/** @throws InvalidOptionError */
function effectOf(effect: unknown, index: number): RedisEffect {
  const isWord = (word: unknown): boolean =>
    typeof word === 'string' || typeof word === 'number' || word instanceof Uint8Array;
  if (Array.isArray(effect) && effect.length > 0 && effect.length <= MAX_COMMAND_WORDS && effect.every(isWord)) {
    return effect as unknown as RedisEffect;
  }
  const rule = `must be a command: a list of 1 to ${MAX_COMMAND_WORDS} strings, numbers or bytes`;
  throw InvalidOptionError.withoutValue(`effects[${index}]`, rule);
}
