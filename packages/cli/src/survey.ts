import { FileDamagedError, entryId } from 'nestjs-redis-streams/engine';
import type { FileMessage } from './dump-reader.js';

/** What a file has of one shard. */
interface SurveyedShard {
  messages: number;
  firstId: string | undefined;
  lastId: string | undefined;
}

interface SurveyedStream {
  readonly shards: Map<bigint, SurveyedShard>;
  /** Numbers of messages with and without the id of an entry. */
  withId: number;
  withoutId: number;
  /** Offset of the first message whose id is not above that of the message before it. */
  disorder: number | undefined;
  /** Offset of the first message without an id. */
  noId: number | undefined;
}

/** The streams, shards and messages of a file, counted in a first pass before anything is written. */
export class Survey {
  readonly streams = new Map<string, SurveyedStream>();
  messages = 0;
  bytes = 0;

  add({ streamKey, shardId, id, offset, size }: FileMessage): void {
    this.messages += 1;
    this.bytes += size;
    let stream = this.streams.get(streamKey);
    if (!stream) {
      stream = { shards: new Map(), withId: 0, withoutId: 0, disorder: undefined, noId: undefined };
      this.streams.set(streamKey, stream);
    }
    let shard = stream.shards.get(shardId);
    if (!shard) stream.shards.set(shardId, (shard = { messages: 0, firstId: id, lastId: undefined }));
    shard.messages += 1;
    if (id === undefined) {
      stream.withoutId += 1;
      stream.noId ??= offset;
      return;
    }
    stream.withId += 1;
    if (entryId.compare(id, shard.lastId ?? '0-0') <= 0) stream.disorder ??= offset;
    else shard.lastId = id;
  }

  /**
   * The number and the time of a message have no checksum, but for an entry of Redis both contain the milliseconds.
   * @returns the first message where they differ, in a stream where those of others agree
   */
  get contradiction(): FileDamagedError | undefined {
    for (const { withId, noId } of this.streams.values())
      if (withId > 0 && noId !== undefined) return contradictionAt(noId);
    return undefined;
  }

  isContradictory({ streamKey, id }: FileMessage): boolean {
    return id === undefined && (this.streams.get(streamKey)?.withId ?? 0) > 0;
  }
}

export function contradictionAt(offset: number): FileDamagedError {
  return new FileDamagedError(offset, 'the number of a message and its time contradict each other');
}
