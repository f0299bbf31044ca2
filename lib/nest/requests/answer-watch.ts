import type { AnswerCommands } from '../../redis/commands/stream-commands.js';
import { outsideContext } from '../../shared/async-context.js';
import { monotonicNow } from '../../shared/clock.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { ReplyWriter } from './reply-writer.js';

/** How often it looks, and the age from which it looks for an answer, in milliseconds. */
const LOOK_INTERVAL = 1_000;
/** Most answers of one client that are asked for in one command; there are as many commands as are needed. */
const MOST_IN_ONE_LOOK = 500;

export interface AnswerWatchOptions {
  readonly answers: Pick<AnswerCommands, 'look'>;
  /** Whether Redis has confirmed that the reply stream has a time to live. */
  readonly isExpiring: (replyStream: string) => boolean;
  /** The client reads no more of the answer. @param isStreamGone the client has let its reply stream expire */
  readonly onUnread: (writer: ReplyWriter, isStreamGone: boolean) => void;
  readonly logger: Required<RedisStreamsLogger>;
}

/**
 * Finds streamed answers that their client no longer reads: it has cancelled the request, it was closed, or it has let its
 * reply stream expire. A stream that has expired is created again by the next reply, without a time to live, which is
 * how it is recognized.
 *
 * Owns one timer, which runs while an answer is under way. It asks Redis only for answers that take longer than the
 * interval, so the usual answer costs no command.
 */
export class AnswerWatch {
  readonly #options: AnswerWatchOptions;
  /** With the time of their start. */
  readonly #writers = new Map<ReplyWriter, number>();
  #timer: NodeJS.Timeout | undefined;
  #isLooking = false;

  constructor(options: AnswerWatchOptions) {
    this.#options = options;
  }

  add(writer: ReplyWriter): void {
    this.#writers.set(writer, monotonicNow());
    this.#timer ??= outsideContext(() => setInterval(() => this.#tick(), LOOK_INTERVAL));
  }

  delete(writer: ReplyWriter): void {
    this.#writers.delete(writer);
  }

  /** Ends the timer; answers that are under way are watched no more. */
  close(): void {
    this.#writers.clear();
    this.#tick();
  }

  #tick(): void {
    if (this.#writers.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    } else if (!this.#isLooking) {
      void this.#look();
    }
  }

  /** Never rejects. Without permission, or in an outage, answers are written to their end. */
  async #look(): Promise<void> {
    this.#isLooking = true;
    const streams = new Map<string, ReplyWriter[]>();
    const now = monotonicNow();
    for (const [writer, since] of this.#writers) {
      if (now - since < LOOK_INTERVAL) continue;
      const { replyTo } = writer.request;
      const writers = streams.get(replyTo);
      if (writers) writers.push(writer);
      else streams.set(replyTo, [writer]);
    }
    const looks: Array<Promise<void>> = [];
    for (const [replyStream, writers] of streams) {
      for (let start = 0; start < writers.length; start += MOST_IN_ONE_LOOK) {
        looks.push(this.#lookAt(replyStream, writers.slice(start, start + MOST_IN_ONE_LOOK)));
      }
    }
    await Promise.all(looks);
    this.#isLooking = false;
  }

  async #lookAt(replyStream: string, writers: readonly ReplyWriter[]): Promise<void> {
    const { answers, isExpiring, onUnread, logger } = this.#options;
    // Before the look: without a reply there may be no stream yet, or one that is about to get its time to live.
    const wereAlive = isExpiring(replyStream) ? writers.filter(({ hasReplied }) => hasReplied) : [];
    try {
      const ids = writers.map(({ request }) => request.correlationId);
      const { timeToLive, isCancelled } = await answers.look(replyStream, ids);
      writers.forEach((writer, index) => {
        const isStreamGone = timeToLive < 0 && wereAlive.includes(writer);
        if ((isStreamGone || isCancelled[index]) && this.#writers.has(writer)) onUnread(writer, isStreamGone);
      });
    } catch (error) {
      logger.debug(`It is unknown whether '${replyStream}' is still read: ${errorText(error)}`);
    }
  }
}
