/** The parts of the id of a delayed message, which is opaque to users. */
export interface DelayedId {
  readonly token: string;
  /** When it is due, in milliseconds since the epoch. */
  readonly due: number;
  /** Undefined when the stream, or the key that was given for it, is not sharded. */
  readonly shardId: number | undefined;
}

const FORMAT = /^([^@\s]+)@(\d{1,16})(?::(\d+))?$/;

/** The id of a message that waits: `<token>@<due>`, in a shard `<token>@<due>:<shard>`. No entry id has this form. */
export function delayedId({ token, due, shardId }: DelayedId): string {
  return `${token}@${due}${shardId === undefined ? '' : `:${shardId}`}`;
}

export function parseDelayedId(id: string): DelayedId | undefined {
  const [, token, due, shardId] = FORMAT.exec(id) ?? [];
  if (token === undefined) return undefined;
  return { token, due: Number(due), shardId: shardId === undefined ? undefined : Number(shardId) };
}
