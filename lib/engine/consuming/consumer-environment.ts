import type { RedisStreamsError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { ReadInterrupt } from '../../redis/connection/read-interrupt.js';
import type { RedisConnection } from '../../redis/connection/redis-connection.js';
import type { RenewalClient, RenewalClientOptions } from '../../redis/connection/renewal-thread.js';
import type { EntryWatch, ReadConnection } from './reading/read-loop-options.js';
import type { ReadCommands, StreamCommands } from '../../redis/commands/stream-commands.js';
import type { LocalLoopHealth } from '../health.js';
import type { EntryFormat } from '../messages/stream-message.js';
import type { GroupPauses } from './group-pauses.js';
import type { GuardedTelemetry } from '../telemetry/guarded-telemetry.js';
import type { SuspectTurn } from '../settling/suspect-turn.js';

/** A connection for the reads of a loop. */
export interface ReaderConnection {
  readonly connection: ReadConnection & Pick<RedisConnection, 'reconnects' | 'liveSince'>;
  /** Commands over this connection. */
  readonly reading: ReadCommands;
  /** Ends a blocked read on this connection. */
  readonly interrupt: Pick<ReadInterrupt, 'isPossible' | 'interrupt'>;
  /** The connection is shared: reads do not block, and the server announces new entries. */
  readonly watch?: EntryWatch | undefined;
  /** Gives the connection back. */
  release(): Promise<void>;
}

/** A session as its streamer knows it. */
export interface LiveSession {
  health(): LocalLoopHealth[];
  /** Its acknowledgements are not repeated any more; those that are not confirmed stay pending. */
  giveUp(): void;
}

/** What a consumer gets from its streamer. */
export interface ConsumerEnvironment {
  /** Every session is in this set from its creation until it has left. */
  readonly sessions: Set<LiveSession>;
  /** Shared, because a suspect of one consumer must not be blamed for a suspect of another. */
  readonly suspectTurn: SuspectTurn;
  /** Which groups are paused, for all consumers together. */
  readonly groupPauses: GroupPauses;
  /** Commands over the connection that never blocks. */
  readonly control: StreamCommands;
  /**
   * Since when the connection that never blocks has been live, on the monotonic clock; undefined while it is not.
   * @param streamKey in Cluster the key of the partition in question, which decides about the node; otherwise undefined
   */
  readonly controlLiveSince: (streamKey: string | undefined) => number | undefined;
  /**
   * Opens a connection for one read loop; the loop's owner releases it.
   * @param streamKey in Cluster the key of the only partition that is read over it; otherwise undefined
   */
  readonly openReader: (streamKey: string | undefined) => ReaderConnection;
  /** Leases that a thread renews while the event loop is blocked; the session closes it. */
  readonly createRenewalClient: (options: RenewalClientOptions) => RenewalClient;
  /**
   * In Cluster: resolves with the connection that all loops of a node share, once it is live; undefined where the server does not
   * announce new entries, so that a read has to block.
   * @throws ConnectTimeoutError, PermissionError, ClosedError
   */
  readonly openWatched: (streamKey: string) => Promise<ReaderConnection | undefined>;
  /** Looks for delayed messages of a stream or shard until the function that it returns is called. */
  readonly moveDelayed: (streamKey: string, onError: (error: RedisStreamsError) => void) => () => void;
  /** Whether the consumer reads the answers to the requests of a client. */
  readonly isForReplies: boolean;
  /** In Cluster one command cannot read streams of different slots. */
  readonly isCluster: () => boolean;
  /** Of Redis, for messages; without credentials. */
  readonly address: string;
  readonly format: EntryFormat;
  /** Longest BLOCK of a read, in milliseconds. */
  readonly blockTimeout: number;
  /** Reads never block. */
  readonly isPolling: boolean;
  /** How long a start waits for Redis, and a commit repeats its acknowledgements through an outage, in milliseconds. */
  readonly timeout: number;
  /** How long handlers have to end when their messages go to another consumer, in milliseconds. */
  readonly shutdownTimeout: number;
  readonly logger: Required<RedisStreamsLogger>;
  /** Undefined where none was given. */
  readonly telemetry: GuardedTelemetry | undefined;
}
