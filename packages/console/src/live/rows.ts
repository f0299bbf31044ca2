import { PermissionError, RedisStreamsError, WrongTypeError } from 'nestjs-redis-streams';
import type { GroupDetails, StreamDetails } from 'nestjs-redis-streams';
import type { GroupRow, ShardRow, StreamRow } from '../api.js';
import type { KnownStreams } from '../known-streams.js';
import { deadLetterStreamOf } from '../stream-policy.js';

export function groupRow(group: GroupDetails): GroupRow {
  return {
    name: group.name,
    lag: group.lag ?? null,
    lagSeconds: group.lagSeconds ?? null,
    pending: group.pending,
    consumers: group.consumers.length,
    isPaused: group.isPaused ?? null,
  };
}

/** How many dead letters a stream has; null where they cannot be read, and 0 where their key may not be read or holds something else. */
export async function countDeadLetters(stream: string, streams: KnownStreams): Promise<number | null> {
  try {
    return (await streams.info(deadLetterStreamOf(stream))).length;
  } catch (error) {
    if (error instanceof PermissionError || error instanceof WrongTypeError) return 0;
    if (error instanceof RedisStreamsError) return null;
    throw error;
  }
}

/** Of a stream that could not be read. */
export function unknownRow(stream: string, { message: failure }: RedisStreamsError): StreamRow {
  return { stream, length: null, memory: null, rate: null, shards: 1, groups: [], deadLetters: null, failure };
}

export function streamRow(details: StreamDetails, deadLetters: number | null, rate: number | null): StreamRow {
  const { streamKey: stream, length, memory, shards, groups } = details;
  return {
    stream,
    length,
    memory: memory ?? null,
    rate,
    shards: shards.length,
    groups: groups.map(groupRow),
    deadLetters,
    failure: null,
  };
}

export function shardRows({ shards }: StreamDetails): ShardRow[] {
  return shards.map(({ key, shardId, length, memory, firstId, lastId }) => ({
    key,
    shard: shardId,
    length,
    memory: memory ?? null,
    firstId: firstId ?? null,
    lastId: lastId ?? null,
  }));
}
