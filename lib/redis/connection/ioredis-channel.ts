import type { Redis } from 'ioredis';

import { monotonicNow } from '../../shared/clock.js';
import { outcomeOf } from '../wire/append-reply.js';
import type { AppendOutcomes } from '../wire/append-reply.js';
import type { AppendBatch, CommandChannel, SendSettings } from '../wire/command-channel.js';
import type { ReplyEncoding } from '../wire/reply-handler.js';
import type { Command } from '../wire/resp-writer.js';
import { ReplyError } from '../wire/resp-reader.js';
import { joinedPages, pagesOf } from '../wire/stream-entry.js';
import type { StreamPage } from '../wire/stream-entry.js';
import { failureOf } from './ioredis-errors.js';

/** How long the first command after a silence may wait without counting, in milliseconds. */
const MAX_FIRST_WAIT = 1_000;

type Argument = string | Buffer | number;

/**
 * For a client whose socket cannot be taken over: ioredis writes the commands and decodes the replies. It
 * costs a command object, a promise and a decoded reply for each message, and is otherwise the same.
 */
export class IoredisChannel implements CommandChannel {
  readonly #client: Redis;
  #waiting = 0;
  #quietSince = monotonicNow();
  #sentAt = 0;
  /** When the first reply became due, or the last one arrived. */
  #lastSignAt = 0;

  /** A client that was connecting already may have asked for replies of another shape, which RESP2 does not have. */
  static async open(client: Redis): Promise<IoredisChannel> {
    if (client.options.replyMapping === 'resp3') await client.call('hello', '2').catch(() => undefined);
    return new IoredisChannel(client);
  }

  private constructor(client: Redis) {
    this.#client = client;
  }

  get isOpen(): boolean {
    return this.#client.status === 'ready';
  }

  get waiting(): number {
    return this.#waiting;
  }

  get silentFor(): number {
    return this.#waiting === 0 ? 0 : monotonicNow() - this.#lastSignAt;
  }

  get quietFor(): number {
    const now = monotonicNow();
    if (this.#waiting === 0) return now - this.#quietSince;
    return this.#waiting === 1 && now - this.#sentAt < MAX_FIRST_WAIT ? this.#sentAt - this.#quietSince : 0;
  }

  async command(command: Command, encoding: ReplyEncoding, settings?: SendSettings): Promise<unknown> {
    const [outcome] = await this.commands([command], encoding, settings);
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  async commands(
    commands: readonly Command[],
    encoding: ReplyEncoding,
    { isAsking = false }: SendSettings = {},
  ): Promise<unknown[]> {
    this.#sentAt = monotonicNow();
    if (this.#waiting === 0) this.#lastSignAt = this.#sentAt;
    this.#waiting += 1;
    // All are written before anything is awaited.
    const replies = commands.map((command) => {
      if (isAsking) this.#client.asking().catch(() => undefined);
      return this.#send(command, encoding);
    });
    const outcomes = await Promise.allSettled(replies);
    this.#waiting -= 1;
    this.#quietSince = monotonicNow();
    this.#lastSignAt = this.#quietSince;
    return outcomes.map((outcome, index) => {
      if (outcome.status === 'rejected') return failureOf(outcome.reason);
      return commands[index]?.[0].startsWith('EVAL') ? scriptReply(outcome.value) : outcome.value;
    });
  }

  async append({ key, limit, requests }: AppendBatch, settings?: SendSettings): Promise<AppendOutcomes> {
    const commands = requests.map(({ id, fields }): Command => ['xadd', key, ...limit, id, ...fields]);
    const replies = await this.commands(commands, 'utf8', settings);
    return replies.map(outcomeOf);
  }

  async pages(
    commands: readonly Command[],
    streamKey: (key: string) => string,
    settings?: SendSettings,
  ): Promise<StreamPage[]> {
    const outcomes = await this.commands(commands, 'buffer', settings);
    let pages: StreamPage[] = [];
    for (const outcome of outcomes) {
      if (!(outcome instanceof Error)) pages = joinedPages(pages, pagesOf(outcome, streamKey));
      else if (pages.length === 0 || !(outcome instanceof ReplyError)) throw outcome;
    }
    return pages;
  }

  /**
   * In lower case, because ioredis 6 gives the replies to commands in upper case another shape. The arguments are one array,
   * which ioredis flattens: 100,000 single ones do not fit the stack.
   */
  #send([name, ...args]: Command, encoding: ReplyEncoding): Promise<unknown> {
    const writable = args.map(asArgument);
    const command = name.toLowerCase();
    return encoding === 'utf8' ? this.#client.call(command, writable) : this.#client.callBuffer(command, writable);
  }
}

/** A script may return errors among other values; ioredis rejects only for an error that is the whole reply. */
function scriptReply(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(scriptReply);
  return value instanceof Error ? failureOf(value) : value;
}

/** ioredis writes Buffers as they are; any other view of bytes it would write as text. */
function asArgument(argument: Command[number]): Argument {
  if (typeof argument !== 'object' || Buffer.isBuffer(argument)) return argument;
  return Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength);
}
