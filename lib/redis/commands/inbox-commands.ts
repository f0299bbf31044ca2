import { UnsupportedOperationError } from '../../errors.js';
import { script } from '../scripts/script.js';
import type { CommandArgument, CommandSender } from './command-sender.js';
import type { InboxCommands, InboxRecord, RedisEffect } from './stream-commands.js';

/**
 * ARGV: token, ms, then each command as the number of its words and these. Returns 1 when this call, or an earlier one with
 * the same token whose reply was lost, has made the record; 0 when somebody else has.
 */
const RECORD = script(
  'record-handled',
  `local recorded = redis.call('GET', KEYS[1])
if recorded then return recorded == ARGV[1] and 1 or 0 end
local at = 3
while at <= #ARGV do
  local size = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + size))
  at = at + 1 + size
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`,
);

/** What an inbox remembers, beside the stream: one key for each message that was handled, which expires. */
export class RedisInboxCommands implements InboxCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async isRecorded(record: InboxRecord): Promise<boolean> {
    return (await this.#sender.text('exists', [this.#key(record)])) === 1;
  }

  async record(record: InboxRecord, token: string, ttl: number, effects: readonly RedisEffect[]): Promise<boolean> {
    const words = effects.flatMap((effect): CommandArgument[] => [effect.length, ...effect]);
    const key = this.#key(record);
    const scripted = await this.#sender.run(RECORD, key, [token, ttl, ...words]);
    if (scripted) return scripted.reply === 1;
    if (effects.length > 0) {
      throw new UnsupportedOperationError('once()', 'with commands to run needs scripts, which are not permitted here');
    }
    if ((await this.#sender.text('set', [key, token, 'PX', ttl, 'NX'])) !== null) return true;
    return (await this.#sender.text('get', [key])) === token;
  }

  /** In Cluster the record is of the stream's slot, so that it can be made together with what else is. */
  #key({ streamKey, group, id }: InboxRecord): string {
    return this.#sender.besideKey(this.#sender.key(streamKey), `handled:${group}:${id}`);
  }
}
