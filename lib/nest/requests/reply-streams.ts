import type { AppendCommands } from '../../redis/commands/stream-commands.js';
import { monotonicNow } from '../../shared/clock.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { REPLY_STREAM_TTL, TTL_RENEWAL } from './request-headers.js';

/** Most reply streams that one server keeps in Redis, apart from those of streamed answers that are under way. */
const MAX_STREAMS = 10_000;
/** Share of them that is deleted when there is one too many: finding the oldest of a Map costs more than deleting it. */
const DELETED_SHARE = 0.1;
/** About how many replies one of them keeps. A client deletes what it has read after each 1,000 replies. */
const MAX_UNREAD = 1_000_000;

export interface ReplyStreamsOptions {
  readonly appending: Pick<AppendCommands, 'expire' | 'trimMaxLen'>;
  readonly logger: Required<RedisStreamsLogger>;
  /**
   * @defaultValue `10_000`
   */
  readonly maxStreams?: number;
}

interface ReplyStream {
  /** When its time to live was last set, on the monotonic clock. */
  renewedAt: number;
  /** Redis has confirmed that. */
  isExpiring: boolean;
  /** Streamed answers that are under way. */
  answers: number;
}

/**
 * The reply streams that this server has written to. Their names come from requests, and a program that may append a request
 * could name a new one each time: so each has a time to live, there are at most 10,000, and each keeps about 1,000,000 replies.
 * When there are more, the tenth of them that has had no reply for the longest time is deleted: clients that are alive have
 * read those.
 *
 * It never writes a reply, and never deletes a stream while an answer is streamed to it.
 */
export class ReplyStreams {
  readonly #options: ReplyStreamsOptions;
  /** In the order of their last replies. */
  readonly #streams = new Map<string, ReplyStream>();
  readonly #maxStreams: number;

  constructor(options: ReplyStreamsOptions) {
    this.#options = options;
    this.#maxStreams = options.maxStreams ?? MAX_STREAMS;
  }

  /** Whether Redis has confirmed that the stream has a time to live. */
  isExpiring(streamKey: string): boolean {
    return this.#streams.get(streamKey)?.isExpiring ?? false;
  }

  /** An answer is streamed until {@link endAnswer} is called. */
  beginAnswer(streamKey: string): void {
    this.#use(streamKey).answers += 1;
  }

  endAnswer(streamKey: string): void {
    this.#use(streamKey).answers -= 1;
  }

  /** Redis has a reply. Its time to live is set at most once in an interval. */
  replied(streamKey: string): void {
    const stream = this.#use(streamKey);
    if (monotonicNow() - stream.renewedAt < TTL_RENEWAL) return;
    if (stream.renewedAt !== -Infinity) void this.#trim(streamKey);
    this.#renew(streamKey, stream);
  }

  /** The last replies have created the stream again, after it had expired. */
  createdAgain(streamKey: string): void {
    this.#renew(streamKey, this.#use(streamKey));
  }

  #use(streamKey: string): ReplyStream {
    const stream = this.#streams.get(streamKey) ?? { renewedAt: -Infinity, isExpiring: false, answers: 0 };
    this.#streams.delete(streamKey);
    this.#streams.set(streamKey, stream);
    if (this.#streams.size > this.#maxStreams) this.#deleteOldest(Math.ceil(this.#maxStreams * DELETED_SHARE));
    return stream;
  }

  #deleteOldest(count: number): void {
    let left = count;
    for (const [streamKey, { answers, renewedAt }] of this.#streams) {
      if (left === 0) return;
      if (answers > 0) continue;
      left -= 1;
      this.#streams.delete(streamKey);
      if (monotonicNow() - renewedAt < REPLY_STREAM_TTL) void this.#expire(streamKey, 0);
    }
  }

  #renew(streamKey: string, stream: ReplyStream): void {
    stream.renewedAt = monotonicNow();
    stream.isExpiring = false;
    void this.#expire(streamKey, REPLY_STREAM_TTL).then((isSet) => {
      stream.isExpiring = isSet;
    });
  }

  /** Never rejects. Without the permission to, reply streams of clients that are gone remain. */
  async #expire(streamKey: string, ttl: number): Promise<boolean> {
    try {
      await this.#options.appending.expire(streamKey, ttl);
      return true;
    } catch (error) {
      this.#options.logger.debug(`The reply stream '${streamKey}' will not expire: ${errorText(error)}`);
      return false;
    }
  }

  /** Never rejects. */
  async #trim(streamKey: string): Promise<void> {
    const { appending, logger } = this.#options;
    try {
      const lost = await appending.trimMaxLen(streamKey, MAX_UNREAD);
      if (lost > 0) logger.warn(`${lost} replies in '${streamKey}' were deleted: its client does not read them`);
    } catch (error) {
      logger.debug(`The reply stream '${streamKey}' was not trimmed: ${errorText(error)}`);
    }
  }
}
