/** The shards of a stream in one layout: `first`, and the numbers behind it. */
export interface ShardLayout {
  readonly first: number;
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
}

/** What a producer is given when it looks. */
export interface LayoutLook {
  /** The number of shards that the producer was given, to be noted while no layout was set. */
  readonly givenShards?: number | undefined;
  /** Limit for the connection, in milliseconds. */
  readonly timeout?: number | undefined;
}

/** Each method throws UnsupportedOperationError where scripts are not permitted, InvalidOptionError for a stream without side keys. */
export interface LayoutCommands {
  look(streamKey: string, look?: LayoutLook): Promise<StreamLayouts>;
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
