import type { ReadCommands } from '../../redis/commands/stream-commands.js';
import { Partition, shardKey } from './partition.js';

/** Shards are looked for in runs of this many keys; a whole run without one is the end. */
const PROBES = 32;

/**
 * The shards of a stream: the keys `key:0`, `key:1`, … that are streams, and the key itself when it is one or when there is
 * no shard. Probing costs one TYPE for each key; it never walks the keyspace.
 */
export async function discoverShards(streamKey: string, reading: Pick<ReadCommands, 'isStream'>): Promise<Partition[]> {
  const found: Partition[] = [];
  for (let first = 0; ; first += PROBES) {
    const ids = Array.from({ length: PROBES }, (_, index) => first + index);
    const areStreams = await Promise.all(ids.map((id) => reading.isStream(shardKey(streamKey, id, true))));
    const present = ids.filter((_, index) => areStreams[index]);
    if (present.length === 0) break;
    found.push(...present.map((id) => new Partition(streamKey, id, shardKey(streamKey, id, true))));
  }
  const isPlainStream = found.length === 0 || (await reading.isStream(streamKey));
  return isPlainStream ? [new Partition(streamKey, 0, streamKey), ...found] : found;
}
