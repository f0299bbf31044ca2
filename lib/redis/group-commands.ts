import type { CommandSender } from './command-sender.js';
import { REMOVE_CONSUMER } from './pending-scripts.js';
import { classifyRedisError } from './redis-error.js';
import type { GroupCommands, GroupConsumerInfo, GroupInfo } from './stream-commands.js';
import { parseConsumers, parseGroups, parsePending } from './stream-replies.js';

/** XGROUP and XINFO. */
export class RedisGroupCommands implements GroupCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async createGroup(streamKey: string, group: string, afterId: string, mkStream: boolean): Promise<boolean> {
    const options = mkStream ? ['MKSTREAM'] : [];
    try {
      await this.#sender.text('xgroup', ['CREATE', this.#sender.key(streamKey), group, afterId, ...options]);
      return true;
    } catch (error) {
      if (classifyRedisError(error) === 'group-exists') return false;
      throw error;
    }
  }

  async groups(streamKey: string): Promise<GroupInfo[]> {
    return parseGroups(await this.#sender.text('xinfo', ['GROUPS', this.#sender.key(streamKey)]));
  }

  async consumers(streamKey: string, group: string): Promise<GroupConsumerInfo[]> {
    return parseConsumers(await this.#sender.text('xinfo', ['CONSUMERS', this.#sender.key(streamKey), group]));
  }

  async setGroupPosition(streamKey: string, group: string, afterId: string): Promise<void> {
    await this.#sender.text('xgroup', ['SETID', this.#sender.key(streamKey), group, afterId]);
  }

  async removeConsumer(streamKey: string, group: string, consumer: string): Promise<number> {
    const scripted = await this.#sender.run(REMOVE_CONSUMER, [streamKey], [group, consumer]);
    if (scripted) return Number(scripted.reply);
    // Without scripts somebody could be handed an entry between the look and the removal; a name left behind is the lesser evil.
    const key = this.#sender.key(streamKey);
    return parsePending(await this.#sender.text('xpending', [key, group, '-', '+', 1, consumer])).length;
  }
}
