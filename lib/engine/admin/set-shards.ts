import { ShardsBusyError } from '../../errors.js';
import type { ShardLayout } from '../../redis/commands/layouts.js';
import type { StreamCommands } from '../../redis/commands/stream-commands.js';
import { probeShards } from '../consuming/shard-discovery.js';
import { endChange, settledLayouts, shardKeysOf } from '../sharding/layout-changes.js';

/** The most shards that a sharder can have. */
export const MAX_SHARDS = 65_536;

type LayoutManaging = Pick<StreamCommands, 'layouts' | 'reading' | 'delayed'>;

/**
 * Sets the number of shards, in steps that anyone can repeat if this process dies: the change is noted beside the stream, the new shards
 * are created, the old ones are closed, and the new ones become those of new messages. A change that is under way is ended first.
 */
export async function setShards(streamKey: string, shards: number, commands: LayoutManaging): Promise<void> {
  const { layouts, reading } = commands;
  for (;;) {
    const known = await settledLayouts(streamKey, layouts);
    const last = known.at(-1);
    if (last?.shards === shards) return closeAgain(streamKey, known.slice(0, -1), commands);
    const found = known.length > 0 ? 0 : Math.max(-1, ...(await probeShards(streamKey, reading))) + 1;
    await requireNothingDelayed(streamKey, last ?? { first: 0, shards: found }, commands);
    const begun = await layouts.begin(streamKey, found, shards);
    if (!begun.pending) {
      // It had as many shards already, without a layout that was set.
      if (begun.layouts.at(-1)?.shards === shards) return;
      continue;
    }
    await endChange(streamKey, begun.layouts, begun.pending, layouts);
    if (begun.pending.layout.shards === shards) return;
  }
}

/** A failover may have lost the end of a shard. One that was deleted stays so. */
async function closeAgain(
  streamKey: string,
  old: readonly ShardLayout[],
  { layouts, reading }: LayoutManaging,
): Promise<void> {
  const keys = old.flatMap((layout) => shardKeysOf(streamKey, layout));
  await Promise.all(keys.map(async (key) => (await reading.isStream(key)) && layouts.close(key)));
}

/** The keys of delayed messages are not stored, so their new shards cannot be determined. */
async function requireNothingDelayed(
  streamKey: string,
  layout: ShardLayout,
  { delayed }: LayoutManaging,
): Promise<void> {
  const keys = shardKeysOf(streamKey, layout);
  const areWaiting = await Promise.all(keys.map((key) => delayed.isWaiting(key)));
  const busy = keys.filter((_, index) => areWaiting[index]);
  if (busy.length > 0) throw new ShardsBusyError(streamKey, busy);
}
