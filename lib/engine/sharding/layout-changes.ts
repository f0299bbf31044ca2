import { pause } from '../../shared/backoff.js';
import type { LayoutCommands, ReadLayoutsOptions, PendingLayout, ShardLayout } from '../../redis/commands/layouts.js';
import { shardKey } from '../messages/stream-message.js';

/** A change that takes longer counts as abandoned, in milliseconds: others end it. */
const LOST_AFTER = 2_000;
/** Between two looks at a change that is under way. */
const LOOK_INTERVAL = 50;

/** The keys of the shards of a layout. */
export function shardKeysOf(streamKey: string, { first, shards }: ShardLayout): string[] {
  return Array.from({ length: shards }, (_, index) => shardKey(streamKey, first + index, true));
}

/**
 * The layouts of a stream, when no change is under way; the last one is that of new messages. A change whose process has
 * died is ended here: its steps can be repeated by anyone.
 */
export async function settledLayouts(
  streamKey: string,
  commands: LayoutCommands,
  look?: ReadLayoutsOptions,
): Promise<readonly ShardLayout[]> {
  for (;;) {
    const { layouts, pending } = await commands.look(streamKey, look);
    if (!pending) return layouts;
    if (pending.age > LOST_AFTER) await completeChange(streamKey, layouts, pending, commands);
    else await pause(LOOK_INTERVAL);
  }
}

/** Closes every shard of the last layout, and then makes the pending one the last. */
export async function completeChange(
  streamKey: string,
  layouts: readonly ShardLayout[],
  pending: PendingLayout,
  commands: LayoutCommands,
): Promise<void> {
  const last = layouts.at(-1);
  await Promise.all(shardKeysOf(streamKey, pending.layout).map((key) => commands.open(key)));
  await Promise.all((last ? shardKeysOf(streamKey, last) : []).map((key) => commands.close(key)));
  await commands.end(streamKey, pending);
}
