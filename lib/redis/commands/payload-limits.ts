import type { CommandChannel } from '../wire/command-channel.js';
import { ReplyError } from '../wire/resp-reader.js';
import type { WriteBatch } from './stream-commands.js';

/** The server's largest argument of a command, in bytes. */
const PAYLOAD_LIMIT = 'proto-max-bulk-len';
/** Redis permits no lower one. */
const MIN_PAYLOAD_LIMIT = 1024 * 1024;

/** Most bytes of one payload, as servers tell it. By connection: servers behind one address may differ. */
export class PayloadLimits {
  readonly #limits = new WeakMap<CommandChannel, number>();
  /** False once CONFIG GET was refused. */
  #canAsk = true;

  /** Undefined when it was not asked for, Infinity when it was not told: then the server itself refuses what is too large. */
  of(channel: CommandChannel): number | undefined {
    return this.#limits.get(channel);
  }

  /** Not asked for before a batch could be over it. */
  areKnown({ size = 0 }: WriteBatch, channel: CommandChannel): boolean {
    return size <= MIN_PAYLOAD_LIMIT || this.#limits.has(channel);
  }

  /** Never rejects. */
  async ask(channel: CommandChannel): Promise<void> {
    const limit = this.#canAsk ? await this.#limitOf(channel) : undefined;
    this.#limits.set(channel, limit ?? Infinity);
  }

  async #limitOf(channel: CommandChannel): Promise<number | undefined> {
    const [reply] = await channel.commands([['CONFIG', 'GET', PAYLOAD_LIMIT]], 'utf8');
    if (reply instanceof Error) {
      if (reply instanceof ReplyError) this.#canAsk = false;
      return undefined;
    }
    const limit = Array.isArray(reply) ? Number(reply[1]) : NaN;
    return Number.isSafeInteger(limit) && limit > 0 ? limit : undefined;
  }
}
