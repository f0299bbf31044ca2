import { UnsupportedOperationError } from '../../errors.js';
import { CANCEL_DELAYED, LIST_DELAYED, MOVE_DUE } from '../scripts/delayed.js';
import type { Script } from '../scripts/script.js';
import type { ReplyEncoding } from '../wire/reply-handler.js';
import type { CommandArgument } from '../wire/resp-writer.js';
import { delayedKeys } from './append-conditions.js';
import type { CommandSender } from './command-sender.js';
import type { DelayedCommands, DelayedEntry, MovedStep } from './stream-commands.js';

/** Most messages, and about how many bytes, that one script appends, so that it does not hold up the server. */
const MOVES_PER_SCRIPT = 200;
const BYTES_PER_SCRIPT = 4 * 1024 * 1024;

/** Moves, lists and cancels the messages that wait beside a stream or shard; each in one step on the server. */
export class RedisDelayedCommands implements DelayedCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async isWaiting(streamKey: string): Promise<boolean> {
    const [delayed] = delayedKeys(this.#sender, streamKey);
    return (await this.#sender.text(delayed, ['EXISTS', delayed])) === 1;
  }

  async move(streamKey: string): Promise<MovedStep> {
    const keys = [this.#sender.key(streamKey), ...delayedKeys(this.#sender, streamKey)] as const;
    const reply = await this.#run(MOVE_DUE, 'moving delayed messages', keys, [MOVES_PER_SCRIPT, BYTES_PER_SCRIPT]);
    const [moved, next, lost, failure] = reply as [number, number, number, unknown];
    return { moved, next: next < 0 ? undefined : next, lost, failure: failure instanceof Error ? failure : undefined };
  }

  async list(streamKey: string, count: number, after?: Pick<DelayedEntry, 'token' | 'due'>): Promise<DelayedEntry[]> {
    const [delayed, waiting] = delayedKeys(this.#sender, streamKey);
    const args = [count, after?.token ?? '', after?.due ?? ''];
    const reply = await this.#run(LIST_DELAYED, 'delayed()', [delayed, waiting], args, 'buffer');
    return (reply as Buffer[][]).map(([token, due, ...fields]) => {
      return { token: String(token), due: Number(String(due)), fields };
    });
  }

  async cancel(streamKey: string, token: string): Promise<boolean> {
    const keys = delayedKeys(this.#sender, streamKey);
    return (await this.#run(CANCEL_DELAYED, 'cancelDelayed()', keys, [token])) === 1;
  }

  async #run(
    script: Script,
    operation: string,
    keys: readonly [string, ...string[]],
    args: readonly CommandArgument[],
    encoding?: ReplyEncoding,
  ): Promise<unknown> {
    const scripted = await this.#sender.run(script, keys, args, encoding);
    if (scripted) return scripted.reply;
    throw new UnsupportedOperationError(operation, 'needs scripts (EVAL, EVALSHA), which are not permitted here');
  }
}
