import type { StreamDetails } from 'nestjs-redis-streams';
import type { KnownStreams } from '../known-streams.js';

/** Looks at streams, whether or not it leaves out nodes that are away. */
type StreamLook = Pick<KnownStreams, 'info'>;

/** One key of a stream: the stream itself, or one of its shards. */
export interface Place {
  readonly key: string;
  readonly shard: number;
}

/** The keys of a stream; none when it does not exist. */
export async function placesOf(streams: StreamLook, stream: string): Promise<Place[]> {
  const { shards } = await streams.info(stream);
  return shards.map(({ key, shardId: shard }) => ({ key, shard }));
}

/** The same with the key of the stream itself, beside which something may wait before the stream exists. */
export async function placesBeside(streams: StreamLook, stream: string): Promise<Place[]> {
  const places = await placesOf(streams, stream);
  return places.some(({ key }) => key === stream) ? places : [{ key: stream, shard: 0 }, ...places];
}

/** One key of a stream, and how far a group has read it. */
export interface GroupPlace extends Place {
  readonly lastDeliveredId: string;
  readonly pending: number;
}

/** The keys of a stream that have the group. */
export function placesOfGroup({ shards }: Pick<StreamDetails, 'shards'>, name: string): GroupPlace[] {
  return shards.flatMap(({ key, shardId: shard, groups }) =>
    groups
      .filter((group) => group.name === name)
      .map(({ lastDeliveredId, pending }) => ({ key, shard, lastDeliveredId, pending })),
  );
}
