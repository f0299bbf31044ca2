import { entryId } from 'nestjs-redis-streams';
import type { RangeBound, StreamManager, StreamMessage } from 'nestjs-redis-streams';
import { MESSAGES_ON_A_PAGE } from '../api.js';
import type { MessagePage, MessageRow } from '../api.js';
import { IN_A_LIST, headersOf, payloadOf } from './contents.js';
import type { Extent } from './contents.js';
import { entriesOf } from './entries.js';
import type { EntryRange } from './entries.js';
import { merged } from './merged.js';
import type { Place } from './places.js';
import { SearchExtent } from './search-extent.js';

/** Entries of the first pages of all shards together. */
const FIRST_ENTRIES = 64;

/** The last entry that was looked at, and the index of its shard among the places. */
interface Cursor {
  readonly id: string;
  readonly index: number;
}

export interface MessageSearch {
  readonly from: RangeBound;
  readonly to: RangeBound;
  readonly newest: boolean;
  readonly after: Cursor | undefined;
  readonly showPayloads: boolean;
  readonly matches: (message: StreamMessage) => boolean;
  /** Ends it. */
  readonly signal: AbortSignal | undefined;
}

/** One page of the messages of a stream that match, in the order of their ids, over all of its shards. */
export async function searchMessages(
  manager: StreamManager,
  places: readonly Place[],
  search: MessageSearch,
): Promise<MessagePage> {
  const { newest, showPayloads, matches, signal } = search;
  signal?.throwIfAborted();
  const first = Math.max(1, Math.min(16, Math.floor(FIRST_ENTRIES / places.length)));
  const sources = places.map(({ key }, index) => {
    const range = rangeOf(search, index);
    return range ? entriesOf(manager, key, range, first) : nothing();
  });
  const direction = newest ? -1 : 1;
  const messages: MessageRow[] = [];
  const extent = new SearchExtent();
  let last: Cursor | undefined;
  for await (const { index, item } of merged(sources, (one, other) => direction * entryId.compare(one.id, other.id))) {
    signal?.throwIfAborted();
    const isFull = messages.length === MESSAGES_ON_A_PAGE || extent.isReached;
    if (isFull) return { messages, next: last ? textOf(last) : null, searched: extent.searched };
    extent.note(item);
    last = { id: item.id, index };
    if (matches(item)) messages.push(messageRow(item, places[index]?.shard ?? 0, IN_A_LIST, showPayloads));
  }
  return { messages, next: null, searched: extent.searched };
}

/** Of one shard; undefined where nothing is left. Entries with the id of the cursor come in the order of their shards. */
function rangeOf({ from, to, newest, after }: MessageSearch, index: number): EntryRange | undefined {
  if (!after) return { from, to, newest };
  const isSeen = index <= after.index;
  const bound = !isSeen ? after.id : newest ? entryId.previous(after.id) : entryId.next(after.id);
  if (bound === undefined) return undefined;
  return newest ? { from, to: bound, newest } : { from: bound, to, newest };
}

async function* nothing(): AsyncGenerator<StreamMessage> {
  // Ends at once.
}

/** @returns undefined for a text that is none */
export function cursorOf(text: string): Cursor | undefined {
  const [id = '', index = '0'] = text.split('/', 2);
  if (!/^\d+-\d+$/.test(id) || !entryId.isValid(id) || !/^\d{1,9}$/.test(index)) return undefined;
  return { id, index: Number(index) };
}

function textOf({ id, index }: Cursor): string {
  return `${id}/${index}`;
}

export function messageRow(
  { id, timestamp, headers, payload }: StreamMessage,
  shard: number,
  extent: Extent,
  showPayloads: boolean,
): MessageRow {
  return {
    id,
    shard,
    at: timestamp.getTime(),
    key: Object.hasOwn(headers, 'key') ? (headers['key'] ?? null) : null,
    headers: headersOf(headers, extent),
    payload: payloadOf(payload, extent, showPayloads),
  };
}
