import { entryId } from 'nestjs-redis-streams';
import type { DeadLetterMessage, StreamManager } from 'nestjs-redis-streams';
import { MESSAGES_ON_A_PAGE } from '../api.js';
import type { DeadLetterPage, DeadLetterRow } from '../api.js';
import { entriesOf } from '../messages/entries.js';
import { SearchExtent } from '../messages/search-extent.js';
import { deadLetterById, mayBeMeant } from './dead-letter-filter.js';
import type { DeadLetterSelection } from './dead-letter-filter.js';

const FIRST_ENTRIES = 16;

export interface DeadLetterSearch {
  readonly selection: DeadLetterSelection;
  /** Continues behind this entry. */
  readonly after: string | undefined;
  /** Ends it. */
  readonly signal: AbortSignal | undefined;
  /** The part of a dead letter that stays in memory: its payload may be large. */
  readonly show: (letter: DeadLetterMessage) => DeadLetterRow;
}

/**
 * One page of the dead letters of a selection, the oldest first. `StreamManager.deadLetters()` reads on until its page is full, however
 * few match; this looks at a bounded number of entries.
 */
export async function searchDeadLetters(
  manager: StreamManager,
  { selection, after, signal, show }: DeadLetterSearch,
): Promise<DeadLetterPage> {
  const { deadLetterStream, query } = selection;
  const extent = new SearchExtent();
  const deadLetters: DeadLetterRow[] = [];
  const from = after === undefined ? (query.since ?? '-') : entryId.next(after);
  if (from === undefined) return { deadLetters, next: null, searched: 0 };
  const range = { from, to: query.until ?? '+', newest: false };
  let last: string | null = null;
  for await (const entry of entriesOf(manager, deadLetterStream, range, FIRST_ENTRIES)) {
    signal?.throwIfAborted();
    if (deadLetters.length === MESSAGES_ON_A_PAGE || extent.isReached) {
      return { deadLetters, next: last, searched: extent.searched };
    }
    extent.note(entry);
    last = entry.id;
    if (!mayBeMeant(selection, entry)) continue;
    const letter = await deadLetterById(manager, selection, entry.id);
    if (letter && selection.matches(letter)) deadLetters.push(show(letter));
  }
  return { deadLetters, next: null, searched: extent.searched };
}
