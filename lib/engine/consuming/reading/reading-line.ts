import type { RedisStreamsLogger } from '../../../shared/logger.js';
import type { ReadInterrupt } from '../../../redis/connection/read-interrupt.js';
import type { RedisConnection } from '../../../redis/connection/redis-connection.js';
import type { ReadCommands, StreamCommands } from '../../../redis/commands/stream-commands.js';
import { GroupReader } from './group-reader.js';
import type { LocalLoopHealth } from '../../health.js';
import type { ResolvedConsumerOptions } from '../../options/options.js';
import type { StreamReader } from './stream-reader.js';
import { TailReader } from './tail-reader.js';

/** A connection for blocking reads, with what belongs to it. */
export interface ReadingLine {
  readonly connection: RedisConnection;
  readonly reading: ReadCommands;
  readonly interrupt: ReadInterrupt;
  /** Closes the connection. */
  release(): Promise<void>;
}

/** What a streamer keeps of the sessions that live, to tell how they are. */
export interface LiveSession {
  health(): LocalLoopHealth[];
}

/** What a consumer is given by its streamer. */
export interface ConsumerEnvironment {
  /** A session is in it from its beginning to its end. */
  readonly sessions: Set<LiveSession>;
  /** Commands over the connection that never blocks. */
  readonly control: StreamCommands;
  /** Since when the connection that never blocks has been live, on the monotonic clock; undefined while it is not. */
  readonly controlLiveSince: () => number | undefined;
  readonly openLine: () => ReadingLine;
  /** In Cluster, streams of different slots cannot be read together. */
  readonly isCluster: () => boolean;
  readonly messageField: string;
  readonly blockTimeout: number;
  /** How long acks may be retried at the end, in milliseconds. */
  readonly timeout: number;
  readonly logger: Required<RedisStreamsLogger>;
}

/** The reader that the consumer's mode asks for. */
export function readerFor(
  line: ReadingLine,
  environment: ConsumerEnvironment,
  options: ResolvedConsumerOptions,
): StreamReader {
  const { control, logger, blockTimeout } = environment;
  const { group, consumer, autoStreamReset, mkStream, autoCommit } = options;
  if (group === undefined) {
    return new TailReader({ reading: line.reading, control: control.reading, autoStreamReset });
  }
  return new GroupReader({
    reading: line.reading,
    control: control.reading,
    groups: control.groups,
    pending: control.pending,
    group,
    consumer,
    autoStreamReset,
    mkStream,
    noAck: autoCommit === 'immediate',
    epoch: () => line.connection.epoch,
    blockTimeout,
    logger,
  });
}
