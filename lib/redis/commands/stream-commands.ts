import type { ThreadEntries, ThreadLease } from '../connection/renewal-thread.js';
import type { AppendOutcomes } from '../wire/append-reply.js';
import type { AppendRequest } from '../wire/resp-writer.js';
import type { StreamEntry, StreamPage } from '../wire/stream-entry.js';
import type { TimestampFormat } from './entry-id.js';
import type { LayoutCommands } from './layouts.js';
import type { HeldLease, OwnershipCommands } from './shard-owners.js';
import type { SideKeyKind } from './side-key.js';

/** What the engine asks of Redis, in facets. Parts of the engine take those they need, so that a unit test can fake them. */
export interface StreamCommands {
  readonly appending: AppendCommands;
  readonly reading: ReadCommands;
  readonly pending: PendingCommands;
  readonly groups: GroupCommands;
  readonly pauses: PauseCommands;
  readonly inbox: InboxCommands;
  readonly answers: AnswerCommands;
  readonly clock: ClockCommands;
  readonly delayed: DelayedCommands;
  readonly ownership: OwnershipCommands;
  readonly layouts: LayoutCommands;
  readonly nodes: NodeCommands;
}

export type { AppendOutcomes, AppendRequest, StreamEntry, StreamPage };

/** Trims a stream as it is appended to, approximately (`~`). */
export interface TrimLimit {
  readonly maxLen?: number | undefined;
  /** Age in milliseconds, by the clock of the server. */
  readonly minAge?: number | undefined;
}

/** Lets the server recognise a batch that it has appended before. */
export interface OnceSettings {
  readonly producer: string;
  /** Grows from batch to batch of a producer. */
  readonly batch: number;
  /** Batches before this one will not be repeated, and need not be remembered any longer. */
  readonly oldest: number;
  /** How long the server remembers the batch, in milliseconds. */
  readonly remember: number;
  /**
   * Asks whether the batch was appended, instead of appending it. If it was not, it never will be, nor any other of the stream
   * with a number below this one, and each of its entries fails with `BatchRevoked`: they may be sent again in other batches.
   */
  readonly revokesBelow?: number | undefined;
}

/** What a script decides about a message before it appends it. */
export interface AppendConditions {
  /** The same in every repetition of the send, and in no other send. Without spaces. */
  readonly token: string;
  /** How long the send may be repeated, in milliseconds. */
  readonly repeatedFor: number;
  /** Not appended when a message with this id was, `within` that many milliseconds. */
  readonly deduplication?: { readonly id: string; readonly within: number } | undefined;
  /** Kept beside the stream until then: in so many milliseconds, or at a time since the epoch, by the clock of the server. */
  readonly due?: { readonly in: number } | { readonly at: number } | undefined;
}

/** Entries that are appended to one stream in one write. */
export interface WriteBatch {
  readonly streamKey: string;
  readonly requests: readonly AppendRequest[];
  /** Bytes of the requests, where a single one may be large. */
  readonly size?: number;
  readonly trim: TrimLimit;
  /** Whether a caller needs the ids; without them the reply is cheaper to read. */
  readonly wantsIds: boolean;
  /** Appends the batch only if it was not appended before. Needs scripts. */
  readonly once?: OnceSettings | undefined;
  /** Appends nothing if the connection ends before the server has read the whole batch: in a transaction, where it has those. */
  readonly isAtomic?: boolean;
  /** Of requests whose ids would have nanoseconds: among milliseconds they get ids like those. Default: they are refused. */
  readonly acceptsMilliseconds?: boolean;
  /** For each request, when a script decides whether it is appended; a batch has either these or {@link once}. Needs scripts. */
  readonly conditions?: readonly AppendConditions[] | undefined;
}

/**
 * Writes batches at once. Its caller decides the order: nothing is awaited between the call and the write, so batches of one
 * stream are written in the order of the calls, whatever each of them needs of the server.
 */
export interface BatchWriter {
  /** Whether a connection for writing was ever live. */
  readonly wasReached: boolean;
  /** Names the connection over which a stream is written: one for all, or in Cluster one for each node. */
  laneOf(streamKey: string): string;
  /** Whether {@link write} is possible now: the connection is live, and what the batch needs of the server is known. */
  canWrite(batch: WriteBatch): boolean;
  /** Most bytes of one payload, or of one header, that the server of the stream takes; undefined when that is not known yet. */
  payloadLimit(streamKey: string): number | undefined;
  /**
   * Resolves when {@link canWrite} is true, at least for a moment, or when {@link laneOf} names another lane.
   * @param timeout limit for the connection, in milliseconds
   * @throws ConnectTimeoutError, PermissionError, ClosedError, or what the server answered
   */
  prepare(batch: WriteBatch, timeout: number): Promise<void>;
  /** Writes the batch before it returns. The promise never rejects. Only when {@link canWrite} is true. */
  write(batch: WriteBatch): Promise<AppendOutcomes>;
}

export interface AppendCommands extends BatchWriter {
  /** Without I/O. @throws InvalidOptionError when nothing can be kept beside a stream of that name */
  requireSideKey(kind: SideKeyKind, streamKey: string): void;
  /** Appends in order, apart from all other batches: prepares, writes, and follows the stream to another node. */
  append(
    streamKey: string,
    requests: readonly AppendRequest[],
    trim?: TrimLimit,
  ): Promise<ReadonlyArray<string | Error>>;
  /**
   * Appends one entry and trims the stream to about `maxLen` entries. Tells how many were deleted or why trimming failed,
   * undefined where XTRIM is not permitted: then XADD trims.
   * @param maxLen false: nothing is trimmed
   */
  appendTrimmed(
    streamKey: string,
    request: AppendRequest,
    maxLen: number | false,
  ): Promise<{ outcome: string | Error | undefined; trimmed: number | Error | undefined }>;
  /** Both return the number of removed entries. */
  trimMaxLen(streamKey: string, maxLen: number): Promise<number>;
  trimMinId(streamKey: string, minId: string): Promise<number>;
  /** See {@link ReadCommands.timestampFormat}. */
  timestampFormat(streamKey: string): Promise<TimestampFormat>;
  /** Deletes entries; returns how many there were. */
  remove(streamKey: string, ids: readonly string[]): Promise<number>;
  /** Removes the stream after that many milliseconds, unless this is called again before; with 0 at once. */
  expire(streamKey: string, ttl: number): Promise<void>;
}

interface ReadLimits {
  /** Most entries of each stream. */
  readonly count: number;
  /** Longest wait in milliseconds; undefined answers at once. */
  readonly block?: number | undefined;
  /** Several entries will probably arrive at once. Only with `block` and a `count` above 1: a second command reads all of them. */
  readonly expectsSeveral?: boolean;
}

export interface GroupReadRequest extends ReadLimits {
  readonly group: string;
  readonly consumer: string;
  readonly streamKeys: readonly string[];
  readonly noAck?: boolean;
  /** Only for one stream: called with the number of entries when the page begins to arrive. Some channels never call it. */
  readonly onCount?: ((entries: number) => void) | undefined;
}

/** A read of shards that are owned, `count` of each: their leases, in their order. */
export interface OwnedReadRequest extends Pick<ReadLimits, 'count'> {
  /** Leases, and the last id that was read of each shard. */
  readonly shards: ReadonlyArray<readonly [lease: HeldLease, after: string]>;
}

export interface ReadRequest extends ReadLimits {
  readonly positions: ReadonlyArray<readonly [streamKey: string, afterId: string]>;
}

/** One page of a walk through the keyspace. */
export interface ScanPage {
  /** For the next page; `'0'` after the last one. */
  readonly cursor: string;
  readonly streams: string[];
  /** Addresses of the masters that were left out because they do not answer. */
  readonly unreachable: string[];
}

export interface ReadCommands {
  /** New entries of a group (`>`). */
  readGroup(request: GroupReadRequest): Promise<StreamPage[]>;
  /**
   * The same without waiting, of shards whose leases are still ours; nothing of the others. A page without entries: the group is at
   * another id than that after which this consumer reads on.
   * @throws UnsupportedOperationError where scripts are not permitted
   */
  readOwned(request: OwnedReadRequest): Promise<StreamPage[]>;
  /** Entries after the given ids, without a group. */
  read(request: ReadRequest): Promise<StreamPage[]>;
  range(streamKey: string, from: string, to: string, count?: number): Promise<StreamEntry[]>;
  /** The same range, the newest first. */
  rangeBackwards(streamKey: string, from: string, to: string, count?: number): Promise<StreamEntry[]>;
  /** One page of stream keys, without our key prefix. */
  scan(cursor: string, options?: { skipUnreachable: boolean }): Promise<ScanPage>;
  streamInfo(streamKey: string): Promise<StreamInfo | undefined>;
  /** What the times in its ids are counted in; milliseconds where that cannot be told. */
  timestampFormat(streamKey: string): Promise<TimestampFormat>;
  /** Number of entries; 0 for a stream that does not exist. */
  length(streamKey: string): Promise<number>;
  /** Bytes, as the server estimates them; undefined for a key that does not exist. */
  memoryUsage(streamKey: string): Promise<number | undefined>;
  isStream(streamKey: string): Promise<boolean>;
  /** As TYPE answers: `none` for a key that does not exist. */
  typeOf(streamKey: string): Promise<string>;
}

export interface StreamInfo {
  readonly length: number;
  /** Ids of the first and the last entry; undefined without entries. */
  readonly firstId: string | undefined;
  readonly lastId: string | undefined;
  readonly lastGeneratedId: string;
  /** Undefined before Redis 7.0. */
  readonly entriesAdded: number | undefined;
}

/** An entry of a pending entries list. */
export interface PendingEntry {
  /** Id of the entry. */
  readonly id: string;
  /** Name of the consumer to which it was delivered. */
  readonly consumer: string;
  /** Milliseconds since it was last delivered or claimed. */
  readonly idle: number;
  /** How often it was delivered. */
  readonly deliveryCount: number;
}

export interface PendingRange {
  /** Only entries behind this id; from the beginning when absent. */
  readonly after?: string | undefined;
  readonly count: number;
  readonly consumer?: string | undefined;
  /** Only entries that have been idle for this many milliseconds. */
  readonly minIdle?: number | undefined;
}

/** The entries that a claim took over. */
export interface ClaimedPage {
  readonly entries: StreamEntry[];
  /** Pending ids whose entries no longer exist. */
  readonly deleted: string[];
  /** Where the next claim continues; undefined at the end of the list. */
  readonly next?: string | undefined;
}

/** Pending entries that changed their owner, with the delivery counts that they had, and still have. */
export interface TakenPage extends Pick<ClaimedPage, 'deleted' | 'next'> {
  readonly taken: PendingEntry[];
}

export interface ClaimRequest {
  readonly streamKey: string;
  readonly group: string;
  readonly consumer: string;
  readonly minIdle: number;
  readonly count: number;
  readonly after?: string | undefined;
}

export interface PendingCommands {
  /** Returns how many of the ids were pending. */
  ack(streamKey: string, group: string, ids: readonly string[]): Promise<number>;
  pending(streamKey: string, group: string, range: PendingRange): Promise<PendingEntry[]>;
  isPending(streamKey: string, group: string, id: string): Promise<boolean>;
  /**
   * Reads entries of our own pending list again. Their idle time is reset; their delivery count rises only with
   * `isRedelivery`. Entries that another consumer has claimed since are left alone.
   */
  claimOwn(
    streamKey: string,
    group: string,
    consumer: string,
    entries: readonly PendingEntry[],
    isRedelivery: boolean,
  ): Promise<ClaimedPage>;
  /** Takes over entries of any consumer that have been idle for `minIdle` milliseconds; their delivery count rises. */
  claimIdle(request: ClaimRequest): Promise<ClaimedPage>;
  /** The same without their fields, and their delivery count stays; {@link claimOwn} reads them. */
  takeIdle(request: ClaimRequest): Promise<TakenPage>;
  /** Resets the idle time of those ids that are still ours; returns these. */
  keepAlive(streamKey: string, group: string, consumer: string, ids: readonly string[]): Promise<string[]>;
  /** What another thread needs to do the same as {@link keepAlive}. */
  leaseOf(streamKey: string, entries: ThreadEntries): ThreadLease;
  /** Sets the idle time, and the delivery count where given, of those entries that are still ours. */
  setIdle(
    streamKey: string,
    group: string,
    consumer: string,
    entries: ReadonlyArray<{ id: string; deliveryCount?: number }>,
    idle: number,
  ): Promise<void>;
  /**
   * Puts entries that are pending for no consumer into our pending list, with the delivery count that is given; the others
   * are left alone.
   */
  restore(
    streamKey: string,
    group: string,
    consumer: string,
    entries: ReadonlyArray<Pick<PendingEntry, 'id' | 'deliveryCount'>>,
  ): Promise<RestoredEntries>;
  /** Puts entries into our pending list that were read without it (NOACK). */
  forcePending(streamKey: string, group: string, consumer: string, ids: readonly string[], idle: number): Promise<void>;
}

export interface RestoredEntries {
  /** Ids of the entries that were pending for no consumer, and are pending for us now. */
  readonly restored: readonly string[];
  /** Ids that are neither pending nor in the stream. */
  readonly gone: readonly string[];
}

/** A consumer group, as XINFO GROUPS shows it. */
export interface GroupInfo {
  /** Name of the group. */
  readonly name: string;
  /** Number of its consumers. */
  readonly consumers: number;
  /** Number of entries that were delivered and not acknowledged. */
  readonly pending: number;
  /** Id of the last entry that was delivered to the group. */
  readonly lastDeliveredId: string;
  /** Entries not yet delivered; undefined where the server does not know (before Redis 7.0, or after deletions). */
  readonly lag?: number | undefined;
}

/** A consumer of a group, as XINFO CONSUMERS shows it. */
export interface GroupConsumerInfo {
  /** Name of the consumer. */
  readonly name: string;
  /** Number of its pending entries. */
  readonly pending: number;
  /** Milliseconds since the consumer last attempted anything. */
  readonly idle: number;
  /**
   * Milliseconds since the consumer was last given or claimed an entry; undefined when it never was, and where the server does
   * not know it (before Redis 7.2).
   */
  readonly inactive?: number | undefined;
}

export interface TrimStep {
  /** Milliseconds without a sign of life after which a group counts for nothing; undefined: every group counts. */
  readonly deadAfter: number | undefined;
  /** Entries that are younger, in milliseconds by the clock of the server, are kept, though acknowledged. */
  readonly keepFor: number | undefined;
  /** About how many entries this step may delete; undefined: all of them, exactly. */
  readonly limit: number | undefined;
  /** Counts the entries from this id on that would be deleted, and deletes nothing. */
  readonly dryRunFrom?: string | undefined;
}

/** What one step of trimming did. */
export interface TrimmedStep {
  readonly trimmed: number;
  /** The first id that may have to stay; undefined when no group is alive. */
  readonly firstKept: string | undefined;
  /** The group because of which it stays; undefined when it is kept for its age. */
  readonly keptFor: string | undefined;
  readonly deadGroups: readonly string[];
  /** Where a dry run continues; undefined at its end. */
  readonly next: string | undefined;
}

/** What was taken of a rate. */
export interface RateGrant {
  /** 0: no more in this span. */
  readonly granted: number;
  /** Milliseconds until the span ends. */
  readonly resetIn: number;
}

export interface GroupCommands {
  /** False when the group was there already. A missing stream is created only with `mkStream`. */
  createGroup(streamKey: string, group: string, afterId: string, mkStream: boolean): Promise<boolean>;
  groups(streamKey: string): Promise<GroupInfo[]>;
  consumers(streamKey: string, group: string): Promise<GroupConsumerInfo[]>;
  setGroupPosition(streamKey: string, group: string, afterId: string): Promise<void>;
  /** Removes the consumer unless entries are pending for it, in one step; returns how many are. */
  removeConsumer(streamKey: string, group: string, consumer: string): Promise<number>;
  /** The same, unless it has done anything within `minIdle` milliseconds; false when it stays. Never without scripts. */
  removeIdleConsumer(streamKey: string, group: string, consumer: string, minIdle: number): Promise<boolean>;
  /** Notes who has a consumer's name now, for `ttl` milliseconds; returns who had it before. */
  holdName(
    streamKey: string,
    group: string,
    consumer: string,
    holder: string,
    ttl: number,
  ): Promise<string | undefined>;
  /** Ends {@link holdName}, unless another holder has the name. */
  releaseName(streamKey: string, group: string, consumer: string, holder: string): Promise<void>;
  /** @throws InvalidOptionError for a stream beside which no rate can be counted */
  checkRate(streamKey: string, group: string): void;
  /**
   * Takes messages, at most `wanted`, of the rate of a group: at most `max` in spans of `per` milliseconds, which begin with their
   * first message.
   */
  takeOfRate(streamKey: string, group: string, wanted: number, rate: { max: number; per: number }): Promise<RateGrant>;
  /** Deletes entries that every group has acknowledged. @throws UnsupportedOperationError where scripts are not permitted */
  trimAcknowledged(streamKey: string, step: TrimStep): Promise<TrimmedStep>;
}

/** A group on a stream, which is paused or not. */
export interface PausedGroup {
  /** The stream, also where its shards are read. */
  readonly streamKey: string;
  readonly group: string;
}

/** @throws InvalidOptionError for a stream that can have no side key */
export interface PauseCommands {
  pause(group: PausedGroup): Promise<void>;
  resume(group: PausedGroup): Promise<void>;
  /** In one write, of groups whose {@link nodeOf} is the same. Each answer may be an error of its own. */
  arePaused(groups: readonly PausedGroup[]): Promise<Array<boolean | Error>>;
  /** Names the node that is asked, so that questions for one node can be kept together. */
  nodeOf(group: PausedGroup): string;
}

/** A message that a group has handled. */
export interface InboxRecord {
  /** The key of the stream or shard that has the message. */
  readonly streamKey: string;
  readonly group: string;
  readonly id: string;
}

/** A command and its arguments. */
export type RedisEffect = readonly [command: string, ...args: Array<string | Uint8Array | number>];

export interface InboxCommands {
  isRecorded(record: InboxRecord): Promise<boolean>;
  /** Runs the effects and makes the record, in one step; false, and nothing is run, when it was there with another token. */
  record(record: InboxRecord, token: string, ttl: number, effects: readonly RedisEffect[]): Promise<boolean>;
}

export interface AnswerCommands {
  /**
   * Notes that the answer to a request, or to every request without an id, is no longer read.
   * @param remember how long, in milliseconds
   */
  cancel(replyStream: string, correlationId: string | undefined, remember: number): Promise<void>;
  /** The time to live of a reply stream (negative without one), and whether the client has cancelled these requests. */
  look(
    replyStream: string,
    correlationIds: readonly string[],
  ): Promise<{ timeToLive: number; isCancelled: readonly boolean[] }>;
}

/** A message that waits beside its stream. */
export interface DelayedEntry {
  readonly token: string;
  /** When it is due, in milliseconds since the epoch. */
  readonly due: number;
  /** Names and values in turn. */
  readonly fields: readonly Buffer[];
}

/** What one step of moving delayed messages did. */
export interface MovedStep {
  readonly moved: number;
  /** Milliseconds until the next message is due; undefined when none waits. */
  readonly next: number | undefined;
  /** Messages whose contents were deleted, or evicted, by others. */
  readonly lost: number;
  /** Why the message that is due could not be appended; it waits. */
  readonly failure: Error | undefined;
}

/** Messages that wait beside a stream or shard until they are due. They are scheduled by appending with conditions. */
export interface DelayedCommands {
  /** One small command. */
  isWaiting(streamKey: string): Promise<boolean>;
  /** Appends those that are due. @throws UnsupportedOperationError where scripts are not permitted */
  move(streamKey: string): Promise<MovedStep>;
  /** Those that are due first, after `after`. @throws UnsupportedOperationError where scripts are not permitted */
  list(streamKey: string, count: number, after?: Pick<DelayedEntry, 'token' | 'due'>): Promise<DelayedEntry[]>;
  /** False when it does not wait. @throws UnsupportedOperationError where scripts are not permitted */
  cancel(streamKey: string, token: string): Promise<boolean>;
}

export interface NodeCommands {
  /** Resolves when Redis is reached; in Cluster, when one of the nodes is. @throws ConnectTimeoutError */
  reached(): Promise<void>;
  /** @throws ConnectionError when no master of a cluster answers */
  requireAny(): void;
  /** Does work on the node that serves the stream; undefined where this is a node of a cluster that does not answer. */
  unlessUnreachable<T>(streamKey: string, work: () => Promise<T>): Promise<{ reply: T } | undefined>;
}

/** The time of the server that serves a stream. In Cluster each node has a clock of its own. */
export interface ClockCommands {
  /** False when {@link ask} would tell more than {@link now} knows. */
  isCurrent(streamKey: string): boolean;
  /**
   * Milliseconds since the epoch, without I/O. Between two connections by the last that was asked; where the server does not
   * tell its time, by the clock of this machine.
   */
  now(streamKey: string): number;
  /** What {@link now} adds to the time of the monotonic clock: turns a time of the server into one of ours without asking a clock. */
  offset(streamKey: string): number;
  /** Asks the server, if it is connected. Never rejects. */
  ask(streamKey: string): Promise<void>;
}
