import { InvalidOptionError, ShardsBusyError, WrongTypeError } from '../../errors.js';
import type { ShardLayout } from '../../redis/commands/layouts.js';
import type { StreamCommands } from '../../redis/commands/stream-commands.js';
import { probeShards } from '../consuming/shard-discovery.js';
import { streamOfShard } from '../messages/stream-message.js';
import { unlessRefused } from '../../redis/commands/redis-error.js';
import { completeChange, settledLayouts, shardKeysOf } from '../sharding/layout-changes.js';

type LayoutManaging = Pick<StreamCommands, 'layouts' | 'reading' | 'delayed'>;

/**
 * Sets the number of shards, in steps that anyone can repeat if this process dies: the change is noted beside the stream, the new shards
 * are created, the old ones are closed, and the new ones become those of new messages. A change that is under way is ended first.
 */
export async function setShards(streamKey: string, shards: number, commands: LayoutManaging): Promise<ShardLayout> {
  const { layouts } = commands;
  await refuseShard(streamKey, commands);
  for (;;) {
    const known = await settledLayouts(streamKey, layouts);
    const last = known.at(-1);
    if (last?.shards === shards) {
      await closeAgain(streamKey, known.slice(0, -1), commands);
      return last;
    }
    const found = known.length > 0 ? 0 : await foundShards(streamKey, commands);
    // What may not be read need not be known here: it is counted where the change begins.
    const given = last ? undefined : await unlessRefused(layouts.read(streamKey));
    const current = last ?? { first: 0, shards: Math.max(found, given?.givenShards ?? 0) };
    if (current.shards !== shards) {
      await requireNothingDelayed(streamKey, current, commands);
      await requireStreams(streamKey, current, shards, commands);
    }
    const begun = await layouts.begin(streamKey, found, shards);
    if (!begun.pending) {
      // It had as many shards already, without a layout that was set.
      const first = begun.layouts.at(-1);
      if (first?.shards === shards) return first;
      continue;
    }
    await completeChange(streamKey, begun.layouts, begun.pending, layouts);
    if (begun.pending.layout.shards === shards) return begun.pending.layout;
  }
}

/** What {@link setShards} would resolve with; changes nothing, and does not wait for a change that is under way. */
export async function plannedShards(streamKey: string, shards: number, commands: LayoutManaging): Promise<ShardLayout> {
  await refuseShard(streamKey, commands);
  const { layouts, pending, givenShards } = await commands.layouts.read(streamKey);
  const set = pending ?? layouts.at(-1);
  const last = set ?? { first: 0, shards: Math.max(givenShards, await foundShards(streamKey, commands)) };
  if (last.shards === shards) return last;
  await requireNothingDelayed(streamKey, last, commands);
  await requireStreams(streamKey, last, shards, commands);
  return { first: last.first + last.shards, shards };
}

/** The number of shards of which the last one exists. */
async function foundShards(streamKey: string, { reading }: LayoutManaging): Promise<number> {
  return Math.max(-1, ...(await probeShards(streamKey, reading))) + 1;
}

/** A layout beside a shard would be one that no producer and no consumer of the stream asks for. */
async function refuseShard(streamKey: string, { layouts }: LayoutManaging): Promise<void> {
  const stream = streamOfShard(streamKey);
  if (stream === streamKey) return;
  // A user who may not read what is beside the other stream has nothing to do with it.
  const details = await unlessRefused(layouts.read(stream));
  if (!details || (details.layouts.length === 0 && !details.pending && details.givenShards === 0)) return;
  throw new InvalidOptionError('streamKey', `must be the stream, '${stream}', and not one of its shards`, streamKey);
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

/** @throws WrongTypeError for a key of the shards to be closed or made that holds another type; nothing is changed then */
async function requireStreams(
  streamKey: string,
  current: ShardLayout,
  shards: number,
  { reading }: LayoutManaging,
): Promise<void> {
  const next = { first: current.first + current.shards, shards };
  const keys = [...shardKeysOf(streamKey, current), ...shardKeysOf(streamKey, next)];
  const types = await Promise.all(keys.map((key) => reading.typeOf(key)));
  const taken = keys.find((_, index) => !['stream', 'none'].includes(types[index] as string));
  if (taken !== undefined) throw new WrongTypeError(taken);
}
