import type { StreamDetails } from 'nestjs-redis-streams';

interface Mark {
  readonly added: number | undefined;
  readonly length: number;
  readonly firstId: string | undefined;
  readonly at: number;
}

/** Counts how many entries are added to streams in a second, from one look to the next. */
export class Rates {
  readonly #marks = new Map<string, Mark>();

  /** @returns null at the first look, and where the server does not count and entries were removed */
  next({ streamKey, entriesAdded: added, length, firstId }: StreamDetails): number | null {
    const before = this.#marks.get(streamKey);
    const mark: Mark = { added, length, firstId, at: performance.now() };
    this.#marks.set(streamKey, mark);
    if (!before) return null;
    const count = countBetween(before, mark);
    const seconds = (mark.at - before.at) / 1_000;
    // Below 0, it is another stream by the same name.
    return count === undefined || count < 0 || seconds === 0 ? null : count / seconds;
  }

  forget(streamKey: string): void {
    this.#marks.delete(streamKey);
  }
}

function countBetween(before: Mark, now: Mark): number | undefined {
  if (now.added !== undefined && before.added !== undefined) return now.added - before.added;
  // Before Redis 7.0: nothing was trimmed while the first entry stays.
  return now.firstId === before.firstId || before.length === 0 ? now.length - before.length : undefined;
}
