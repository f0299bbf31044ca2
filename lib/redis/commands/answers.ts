import type { CommandSender } from './command-sender.js';
import type { AnswerCommands } from './stream-commands.js';

/** What a client leaves beside its reply stream, for the servers that still write to it. */
export class RedisAnswerCommands implements AnswerCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async cancel(replyStream: string, correlationId: string | undefined, remember: number): Promise<void> {
    const key = this.#cancelKey(replyStream, correlationId);
    await this.#sender.text(key, ['SET', key, 1, 'PX', remember]);
  }

  async look(
    replyStream: string,
    correlationIds: readonly string[],
  ): Promise<{ timeToLive: number; isCancelled: readonly boolean[] }> {
    const key = this.#sender.key(replyStream);
    const cancelled = [undefined, ...correlationIds].map((id) => this.#cancelKey(replyStream, id));
    const [timeToLive, marks] = await this.#sender.pipeline(key, [
      ['PTTL', key],
      ['MGET', ...cancelled],
    ]);
    const failure = [timeToLive, marks].find((reply) => reply instanceof Error);
    if (failure) throw failure;
    const [all, ...each] = (marks as Array<string | null>).map((mark) => mark !== null);
    return { timeToLive: Number(timeToLive), isCancelled: each.map((isCancelled) => isCancelled || all === true) };
  }

  /** Without an id, of all answers to the client. */
  #cancelKey(replyStream: string, correlationId: string | undefined): string {
    return this.#sender.sideKey('cancelled', replyStream, ...(correlationId === undefined ? [] : [correlationId]));
  }
}
