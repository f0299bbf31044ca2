/** Which entries {@link StreamManager.range} returns. */
export interface RangeOptions {
  /**
   * Most entries. At least 1.
   * @defaultValue all of the range
   */
  count?: number;
  /**
   * Begins with the newest entry of the range, and goes back.
   * @defaultValue `false`
   */
  newest?: boolean;
}

/** How {@link StreamManager.scan} and {@link StreamManager.info} treat a node of a cluster that does not answer. */
export interface ClusterReadOptions {
  /**
   * Leaves out nodes of a cluster that have not answered for two seconds, and names what is missing in `unreachable`. Otherwise the call
   * fails. It fails in either case when no node can be reached.
   * @defaultValue `false`
   */
  skipUnreachable?: boolean;
}

/** Which pending entries to list. */
export interface PendingQuery {
  /**
   * Only entries of this consumer.
   * @defaultValue all consumers
   */
  consumer?: string;
  /**
   * Only entries after this id, to continue where a page ended.
   * @defaultValue the oldest entry
   */
  after?: string;
  /**
   * Only entries that have been idle for at least this time, in milliseconds. Applied to each page.
   * @defaultValue `0`
   */
  minIdle?: number;
  /**
   * Size of a page. At least 1.
   * @defaultValue `100`
   */
  count?: number;
}

/** Options of {@link StreamManager.setShards}. */
export interface SetShardsOptions {
  /**
   * Return the shards that there would be, and change nothing.
   * @defaultValue `false`
   */
  dryRun?: boolean;
}

/** Which delayed messages to list. */
export interface DelayedQuery {
  /**
   * Size of a page. At least 1, at most 10,000.
   * @defaultValue `100`
   */
  count?: number;
  /**
   * The id of a delayed message, to continue after it.
   * @defaultValue the message that is due first
   */
  after?: string;
}

/** A message that waits beside its stream until it is due. */
export interface DelayedMessage {
  /** For {@link StreamManager.cancelDelayed}; the same as in its receipt, but for the number of its shard. */
  readonly id: string;
  /** When it is due, by the clock of Redis. */
  readonly deliverAt: Date;
  /** Payload of the message. */
  readonly payload: Buffer;
  /** Headers of the message. */
  readonly headers: Readonly<Record<string, string>>;
}
