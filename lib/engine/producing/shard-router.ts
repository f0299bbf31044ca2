import { SendFailedError, RedisStreamsError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { RECONNECT_BACKOFF, backoffDelay, pause } from '../../shared/backoff.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { LayoutCommands, ShardLayout } from '../../redis/commands/layouts.js';
import { classifyRedisError, isTransient, toPublicError } from '../../redis/commands/redis-error.js';
import { shardKey } from '../messages/stream-message.js';
import type { ShardedStream } from '../messages/outgoing-message.js';
import type { Sharder } from '../options/options.js';
import { settledLayouts } from '../sharding/layout-changes.js';
import { KeyHashSharder, chooseShard, resized } from './sharder.js';
import type { WritePipeline } from './write-pipeline.js';

/** A stream to which a producer sends, with the shards that it has now. */
class RoutedStream implements ShardedStream {
  readonly streamKey: string;
  sharder: Sharder;
  /** The number of its first shard. */
  first = 0;
  /** Its messages are held while it is looked how many shards there are. */
  isLooking = false;

  constructor(streamKey: string, sharder: Sharder) {
    this.streamKey = streamKey;
    this.sharder = sharder;
  }

  has({ first, shards }: ShardLayout): boolean {
    return this.first === first && this.sharder.shards === shards;
  }
}

export interface ShardRouterOptions {
  readonly sharder: Sharder;
  readonly layouts: LayoutCommands;
  readonly pipeline: WritePipeline;
  readonly logger: Required<RedisStreamsLogger>;
}

/** Streams that are known at the same time. One that is forgotten is looked at again. */
const MAX_STREAMS = 10_000;
/** What a producer that may not look was refused. */
const LOOKING = 'reading the number of shards of';
/** Between a failed look and the next one, at least, in milliseconds: also when a message has reached its deadline. */
const SHORTEST_PAUSE = 50;
/** Between two looks whether the messages in flight are back, in milliseconds. */
const BACK_INTERVAL = 5;

/**
 * Follows the number of shards of each stream, where a sharder of this package chooses among them. With keys it looks before the
 * first message of a stream; later, and without keys, when Redis refuses to append because the shard was closed.
 *
 * While it looks, the messages of the stream are held, also those that come in between. When none is in flight any more, all of
 * them go to the new shards in one step, in their order. So no message overtakes an earlier one of its key.
 */
export class ShardRouter {
  readonly #options: ShardRouterOptions;
  readonly #streams = new Map<string, RoutedStream>();
  /** Most producers send to one stream, and each message asks for it. */
  #last: RoutedStream | undefined;

  constructor(options: ShardRouterOptions) {
    this.#options = options;
  }

  /** The sharder of a stream, and the number of its first shard. */
  of(streamKey: string): RoutedStream {
    if (this.#last?.streamKey === streamKey) return this.#last;
    const stream = this.#streams.get(streamKey) ?? this.#create(streamKey);
    this.#last = stream;
    return stream;
  }

  #create(streamKey: string): RoutedStream {
    const { sharder } = this.#options;
    if (this.#streams.size >= MAX_STREAMS) this.#forgetOldest();
    const stream = new RoutedStream(streamKey, resized(sharder, sharder.shards) ?? sharder);
    this.#streams.set(streamKey, stream);
    if (sharder instanceof KeyHashSharder) this.lookAt(stream, sharder.shards);
    return stream;
  }

  /** @param givenShards the number of shards for which keys were chosen, used while no layout is set */
  lookAt(stream: RoutedStream, givenShards?: number): void {
    if (stream.isLooking) return;
    stream.isLooking = true;
    this.#options.pipeline.shards.hold(stream);
    outsideContext(() => void this.#look(stream, givenShards));
  }

  /** Redis has refused a message of the stream because its shard is closed. */
  readonly onClosed = (sharded: ShardedStream): void => {
    if (sharded instanceof RoutedStream) this.lookAt(sharded);
  };

  /** Never rejects. */
  async #look(stream: RoutedStream, givenShards: number | undefined): Promise<void> {
    const { pipeline, logger } = this.#options;
    for (let attempt = 1; stream.isLooking; attempt += 1) {
      try {
        // One turn, so that the first message is there, whose deadline counts.
        await pause(0);
        const layout = await this.#layoutOf(stream, givenShards);
        if (givenShards === undefined && (!layout || stream.has(layout))) throw this.#stillClosed(stream);
        while (!pipeline.shards.areBack(stream)) await pause(BACK_INTERVAL);
        this.#moveTo(stream, layout);
      } catch (error) {
        const isFinal = !isRetryable(error);
        if (isFinal && givenShards !== undefined) {
          logger.debug(`The number of shards of '${stream.streamKey}' is taken as given: ${errorText(error)}`);
          this.#moveTo(stream, undefined);
          return;
        }
        // Others may end a change that this user may not end: what Redis has refused waits for that until its deadline.
        pipeline.expire(stream, isFinal ? toPublicError(error, stream.streamKey, LOOKING) : (error as Error));
        const untilDeadline = Math.max(SHORTEST_PAUSE, pipeline.shards.timeLeft(stream));
        await pause(Math.min(backoffDelay(RECONNECT_BACKOFF, attempt), untilDeadline), pipeline.closing);
        if (!pipeline.closing.aborted) continue;
        if (pipeline.size === 0) return;
        // What is in flight comes back first.
        await pause(BACK_INTERVAL);
      }
    }
  }

  async #layoutOf(stream: RoutedStream, givenShards: number | undefined): Promise<ShardLayout | undefined> {
    const { layouts, pipeline } = this.#options;
    const left = pipeline.shards.timeLeft(stream);
    const timeout = Number.isFinite(left) ? left : undefined;
    return (await settledLayouts(stream.streamKey, layouts, { givenShards, timeout })).at(-1);
  }

  #stillClosed({ streamKey }: RoutedStream): SendFailedError {
    return new SendFailedError(streamKey, 'its shard is closed, and no other is known', undefined, true);
  }

  #moveTo(stream: RoutedStream, layout: ShardLayout | undefined): void {
    const { pipeline, logger } = this.#options;
    const messages = pipeline.takeAll(stream);
    stream.isLooking = false;
    if (layout && !stream.has(layout)) {
      const shards = layout.shards === 1 ? '1 shard' : `${layout.shards} shards`;
      stream.first = layout.first;
      stream.sharder = resized(stream.sharder, layout.shards) ?? stream.sharder;
      logger.log(`'${stream.streamKey}' has ${shards} now, from number ${layout.first} on`);
      for (const message of messages) {
        const { route, conditions, payload } = message;
        const { streamKey, first, sharder } = stream;
        const shardId = first + chooseShard(sharder, streamKey, route?.key, conditions?.deduplication?.id, payload);
        message.moveTo(shardKey(streamKey, shardId, true), shardId);
      }
    }
    for (const message of messages) pipeline.pushAgain(message);
  }

  #forgetOldest(): void {
    for (const [streamKey, stream] of this.#streams) {
      if (stream.isLooking || !this.#options.pipeline.shards.isIdle(stream)) continue;
      this.#streams.delete(streamKey);
      if (this.#last === stream) this.#last = undefined;
      return;
    }
  }
}

/** Whether the same look may succeed later. */
function isRetryable(error: unknown): boolean {
  return error instanceof RedisStreamsError ? error.retryable : isTransient(classifyRedisError(error));
}
