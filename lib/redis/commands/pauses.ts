import type { CommandSender } from './command-sender.js';
import type { PauseCommands, PausedGroup } from './stream-commands.js';

/**
 * A key beside the stream, which exists while a group is paused; its value is the time since when. Consumers need EXISTS
 * alone, which they need anyway, and who pauses needs SET, because DEL would be one more permission to ask for.
 */
export class RedisPauseCommands implements PauseCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  async pause(group: PausedGroup): Promise<void> {
    const key = this.#keyOf(group);
    await this.#sender.text(key, ['SET', key, new Date().toISOString()]);
  }

  async resume(group: PausedGroup): Promise<void> {
    const key = this.#keyOf(group);
    await this.#sender.text(key, ['SET', key, '', 'PX', 1]);
  }

  async arePaused(groups: readonly PausedGroup[]): Promise<Array<boolean | Error>> {
    const keys = groups.map((group) => this.#keyOrError(group));
    const known = keys.filter((key) => typeof key === 'string');
    const replies = await this.#sender.pipeline(
      known,
      known.map((key) => ['EXISTS', key] as const),
    );
    const answers = replies.values();
    return keys.map((key) => {
      const answer: unknown = typeof key === 'string' ? answers.next().value : key;
      return answer instanceof Error ? answer : answer === 1;
    });
  }

  nodeOf(group: PausedGroup): string {
    return this.#sender.router.laneOf(this.#keyOf(group));
  }

  #keyOrError(group: PausedGroup): string | Error {
    try {
      return this.#keyOf(group);
    } catch (error) {
      return error as Error;
    }
  }

  #keyOf({ streamKey, group }: PausedGroup): string {
    return this.#sender.sideKey('paused', streamKey, group);
  }
}
