import { UnsupportedOperationError } from '../../errors.js';
import { RECORD_HANDLED } from '../scripts/record-handled.js';
import type { CommandArgument } from '../wire/resp-writer.js';
import type { CommandSender } from './command-sender.js';
import type { InboxCommands, InboxRecord, RedisEffect } from './stream-commands.js';

/** The memory of an inbox, beside the stream or shard: one key for each message that was handled, which expires. */
export class RedisInboxCommands implements InboxCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async isRecorded(record: InboxRecord): Promise<boolean> {
    const key = this.#key(record);
    return (await this.#sender.text(key, ['EXISTS', key])) === 1;
  }

  async record(record: InboxRecord, token: string, ttl: number, effects: readonly RedisEffect[]): Promise<boolean> {
    const words = effects.flatMap((effect): CommandArgument[] => [effect.length, ...effect]);
    const key = this.#key(record);
    const scripted = await this.#sender.run(RECORD_HANDLED, key, [token, ttl, ...words]);
    if (scripted) return scripted.reply === 1;
    if (effects.length > 0) {
      throw new UnsupportedOperationError('once()', 'with commands to run needs scripts, which are not permitted here');
    }
    if ((await this.#sender.text(key, ['SET', key, token, 'PX', ttl, 'NX'])) !== null) return true;
    return (await this.#sender.text(key, ['GET', key])) === token;
  }

  /** In the slot of the stream or shard, so that the record can be made together with the effects. */
  #key({ streamKey, group, id }: InboxRecord): string {
    return this.#sender.sideKey('handled', streamKey, group, id);
  }
}
