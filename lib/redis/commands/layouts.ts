/** The shards of a stream in one layout, whose numbers follow one another. */
export interface ShardLayout {
  /** The number of the first shard. */
  readonly first: number;
  /** How many shards there are. */
  readonly shards: number;
}

/** A layout that is being set: the shards of the one before may still be open. */
export interface PendingLayout {
  /** By which {@link LayoutCommands.end} knows it. */
  readonly name: string;
  readonly layout: ShardLayout;
  /** Milliseconds since it began, by the clock of Redis. */
  readonly age: number;
}

export interface StreamLayouts {
  /** The oldest first; none while the number of shards was never set. */
  readonly layouts: readonly ShardLayout[];
  readonly pending: PendingLayout | undefined;
  /** The largest number of shards that a producer with a `KeyHashSharder` was given before a layout was set; 0 without one. */
  readonly givenShards: number;
}

/** What is noted about the shards of a stream. */
export interface LayoutDetails {
  /**
   * The layouts that were set, the oldest first. New messages go to the shards of the last one; those of the others are closed. None
   * while `setShards()` was not called.
   */
  readonly layouts: readonly ShardLayout[];
  /** The layout that is being set, or that a process has left behind that died while it set it. */
  readonly pending: ShardLayout | undefined;
  /** The largest number of shards that a producer with a `KeyHashSharder` was given before a layout was set; 0 without one. */
  readonly givenShards: number;
}

/** What a producer gives when it looks. */
export interface ReadLayoutsOptions {
  /** The number of shards that the producer was given, to be noted while no layout was set. */
  readonly givenShards?: number | undefined;
  /** Limit for the connection, in milliseconds. */
  readonly timeout?: number | undefined;
}

/** Each method but `read` throws UnsupportedOperationError where scripts are not permitted, InvalidOptionError for a stream without side keys. */
export interface LayoutCommands {
  /** Without a script; changes nothing. */
  read(streamKey: string): Promise<LayoutDetails>;
  look(streamKey: string, look?: ReadLayoutsOptions): Promise<StreamLayouts>;
  /**
   * Begins to set a number of shards, unless it is set already or another change is under way.
   * @param found how many shards exist, where none was ever set
   */
  begin(streamKey: string, found: number, shards: number): Promise<StreamLayouts>;
  /** The shard exists from now on. Idempotent. */
  open(shardKey: string): Promise<void>;
  /** Redis appends nothing to the shard from now on. Idempotent. */
  close(shardKey: string): Promise<void>;
  /** To be called when every shard of the last layout is closed. Idempotent. */
  end(streamKey: string, pending: PendingLayout): Promise<StreamLayouts>;
}
