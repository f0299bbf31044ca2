import { entryId } from 'nestjs-redis-streams';
import type { RangeBound, StreamManager, StreamMessage } from 'nestjs-redis-streams';

/** Entries of a page: few at first, then as many as fit into about {@link PAGE_BYTES}. */
const LARGEST_PAGE = 500;
const PAGE_BYTES = 1024 * 1024;

export interface EntryRange {
  readonly from: RangeBound;
  readonly to: RangeBound;
  readonly newest: boolean;
}

/**
 * The entries of one key between two bounds, in pages of limited size: neither this process nor Redis has more of them at a time.
 * @param first size of the first page
 */
export async function* entriesOf(
  manager: Pick<StreamManager, 'range'>,
  key: string,
  { from, to, newest }: EntryRange,
  first: number,
): AsyncGenerator<StreamMessage> {
  let count = first;
  let bounds: { from: RangeBound; to: RangeBound } | undefined = { from, to };
  while (bounds) {
    const page: StreamMessage[] = await manager.range(key, bounds.from, bounds.to, { count, newest });
    yield* page;
    const last = page.at(-1);
    if (!last || page.length < count) return;
    const bound = newest ? entryId.previous(last.id) : entryId.next(last.id);
    if (bound === undefined) return;
    bounds = newest ? { from, to: bound } : { from: bound, to };
    const bytes = page.reduce((sum, message) => sum + sizeOf(message), 1);
    count = Math.min(LARGEST_PAGE, 4 * count, Math.max(1, Math.floor((PAGE_BYTES * page.length) / bytes)));
  }
}

/** Bytes. */
export function sizeOf({ storedFields }: StreamMessage): number {
  return storedFields.reduce((sum, { length }) => sum + length, 0);
}
