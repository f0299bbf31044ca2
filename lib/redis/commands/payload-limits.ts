import type { CommandChannel } from '../wire/command-channel.js';
import { ReplyError } from '../wire/resp-reader.js';
import type { WriteBatch } from './stream-commands.js';

/** The server's largest argument of a command, in bytes. */
const PAYLOAD_LIMIT = 'proto-max-bulk-len';
/** Redis permits no lower one. */
const MIN_PAYLOAD_LIMIT = 1024 * 1024;

/** The largest payload that a server takes, in bytes. Kept for each connection: servers behind one address may differ. */
export class PayloadLimits {
  readonly #limits = new WeakMap<CommandChannel, number>();
  /** False once CONFIG GET was refused. */
  #canAsk = true;

  /** Undefined before {@link ask}; Infinity if the server did not answer: it refuses by itself what is too large. */
  of(channel: CommandChannel): number | undefined {
    return this.#limits.get(channel);
  }

  /** False if the batch could be over the limit and the server was not asked yet. */
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
