import { UnsupportedOperationError } from '../../errors.js';
import { RECORD_HANDLED } from '../scripts/record-handled.js';
import type { CommandArgument } from '../wire/resp-writer.js';
import type { CommandSender } from './command-sender.js';
import type { InboxCommands, InboxRecord, RedisEffect } from './stream-commands.js';

/** The memory of an inbox, beside the stream: one key for each message that was handled, which expires. */
export class RedisInboxCommands implements InboxCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async isRecorded(record: InboxRecord): Promise<boolean> {
    const key = await this.#key(record);
    return (await this.#sender.text(key, ['EXISTS', key])) === 1;
  }

  async record(record: InboxRecord, token: string, ttl: number, effects: readonly RedisEffect[]): Promise<boolean> {
    const words = effects.flatMap((effect): CommandArgument[] => [effect.length, ...effect]);
    const key = await this.#key(record);
    const scripted = await this.#sender.run(RECORD_HANDLED, key, [token, ttl, ...words]);
    if (scripted) return scripted.reply === 1;
    if (effects.length > 0) {
      throw new UnsupportedOperationError('once()', 'with commands to run needs scripts, which are not permitted here');
    }
    if ((await this.#sender.text(key, ['SET', key, token, 'PX', ttl, 'NX'])) !== null) return true;
    return (await this.#sender.text(key, ['GET', key])) === token;
  }

  /** In Cluster the record has the stream's slot, so that it can be made together with the effects. */
  async #key({ streamKey, group, id }: InboxRecord): Promise<string> {
    const { router, timeout } = this.#sender;
    const key = this.#sender.key(streamKey);
    // A guess before the first connection could look for the record at another key than the one where it is.
    if (router.isCluster === undefined) await router.ready(key, timeout);
    return this.#sender.besideKey(key, `handled:${group}:${id}`);
  }
}
