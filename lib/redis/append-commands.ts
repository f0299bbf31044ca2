import type { CommandArgument, CommandSender } from './command-sender.js';
import type { AppendCommands, AppendRequest, TrimLimit } from './stream-commands.js';

/** XADD and XTRIM over the writer connection. */
export class RedisAppendCommands implements AppendCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async append(streamKey: string, requests: readonly AppendRequest[], trim: TrimLimit): Promise<Array<string | Error>> {
    const key = this.#sender.key(streamKey);
    const limit = trimArguments(trim);
    const replies = await this.#sender.pipeline(
      requests.map(({ id, fields }) => ['xadd', key, ...limit, id, ...fields] as const),
    );
    return replies as Array<string | Error>;
  }

  async trimMaxLen(streamKey: string, maxLen: number): Promise<number> {
    return Number(await this.#sender.text('xtrim', [this.#sender.key(streamKey), 'MAXLEN', '~', maxLen]));
  }

  async trimMinId(streamKey: string, minId: string): Promise<number> {
    return Number(await this.#sender.text('xtrim', [this.#sender.key(streamKey), 'MINID', '~', minId]));
  }
}

function trimArguments({ maxLen, minId }: TrimLimit): CommandArgument[] {
  if (maxLen !== undefined) return ['MAXLEN', '~', maxLen];
  return minId === undefined ? [] : ['MINID', '~', minId];
}
