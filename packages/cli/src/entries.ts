import { entryId } from 'nestjs-redis-streams/engine';
import type { RangeBound, StreamManager, StreamMessage } from 'nestjs-redis-streams/engine';
import { sum } from './numbers.js';

/** Entries of a page: few at first, then as many as fit into about `PAGE_BYTES`. */
const FIRST_PAGE = 16;
const LARGEST_PAGE = 1_000;
const PAGE_BYTES = 1024 * 1024;

/** One key of a stream: the stream itself, or one of its shards. */
export interface Place {
  readonly key: string;
  readonly shardId: number;
}

/** An entry with its stream and shard, which `range()` does not know: it reads one key. */
export interface Entry {
  readonly streamKey: string;
  readonly shardId: number;
  readonly message: StreamMessage;
}

/** Whether the time of an id is in nanoseconds: of milliseconds no program writes as many digits. */
export function isNanoseconds(id: string): boolean {
  return /^\d{16,}/.test(id);
}

/** The entries of one key, oldest first, read in pages of limited size: memory does not grow with the stream. */
export async function* messagesOf(
  manager: Pick<StreamManager, 'range'>,
  key: string,
  from: RangeBound,
  to: RangeBound,
): AsyncGenerator<StreamMessage> {
  let count = FIRST_PAGE;
  for (let start: RangeBound | undefined = from; start !== undefined;) {
    const page: StreamMessage[] = await manager.range(key, start, to, { count });
    yield* page;
    const last = page.at(-1);
    if (!last || page.length < count) return;
    start = entryId.next(last.id);
    const bytes = sum(page.map(sizeOf));
    count = Math.min(LARGEST_PAGE, Math.max(1, Math.floor((PAGE_BYTES * page.length) / Math.max(1, bytes))));
  }
}

/**
 * The entries of a stream and its shards, in the order of their ids.
 * @param from where to begin in each key
 */
export async function* entriesOf(
  manager: Pick<StreamManager, 'range'>,
  streamKey: string,
  places: readonly Place[],
  from: (key: string) => RangeBound | undefined,
  to: RangeBound = '+',
): AsyncGenerator<Entry> {
  const sources = places.map(({ key, shardId }) => ({
    shardId,
    messages: messagesOf(manager, key, from(key) ?? '-', to),
  }));
  const next = async (source: (typeof sources)[number]) => {
    const { value } = (await source.messages.next()) as IteratorResult<StreamMessage, undefined>;
    return value === undefined ? [] : [{ source, message: value }];
  };
  const heads = (await Promise.all(sources.map(next))).flat();
  for (;;) {
    const first = heads.reduce<(typeof heads)[number] | undefined>(
      (lowest, head) => (lowest && entryId.compare(lowest.message.id, head.message.id) <= 0 ? lowest : head),
      undefined,
    );
    if (!first) return;
    yield { streamKey, shardId: first.source.shardId, message: first.message };
    heads.splice(heads.indexOf(first), 1, ...(await next(first.source)));
  }
}

const ENTRY_ID = /^\d{1,20}-\d{1,20}$/;

export function isEntryId(text: string): boolean {
  return ENTRY_ID.test(text);
}

function sizeOf({ fields }: StreamMessage): number {
  return sum([...fields].map(([name, value]) => name.length + value.length));
}
