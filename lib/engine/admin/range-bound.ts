import { ID_BEFORE_ALL } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import { isEntryId, lastIdOfMillisecond, timeInIds } from '../../redis/commands/entry-id.js';
import type { ReadCommands } from '../../redis/commands/stream-commands.js';
import { check } from '../../shared/option-checks.js';

/** A bound of a range: a time or an id that is included, a time that is excluded, or either end of the stream. */
export type RangeBound =
  | Date
  | {
      /** From the first entry after this time. */
      readonly after: Date;
    }
  | {
      /** Up to the last entry before this time. */
      readonly before: Date;
    }
  | '-'
  | '+'
  | (string & {});

/** Returns an id, or milliseconds: their id depends on the format of the stream. @throws InvalidOptionError */
export function rangeBound(option: string, bound: RangeBound): string | number {
  if (bound === '-' || bound === '+') return bound;
  if (bound instanceof Date) {
    check.date(option, bound);
    return bound.getTime();
  }
  if (typeof bound === 'string') {
    if (!isEntryId(bound)) throw new InvalidOptionError(option, "must be a Date, '-', '+' or an entry id", bound);
    return bound;
  }
  if (typeof bound === 'object' && bound !== null && 'after' in bound) {
    check.date(option, bound.after);
    return bound.after.getTime() + 1;
  }
  if (typeof bound === 'object' && bound !== null && 'before' in bound) {
    check.date(option, bound.before);
    // Nothing is before 1970, and no entry has this id.
    return bound.before.getTime() === 0 ? ID_BEFORE_ALL : bound.before.getTime() - 1;
  }
  throw new InvalidOptionError(option, "must be a Date, { after }, { before }, '-', '+' or an entry id", bound);
}

/** Turns bounds into ids in the format of the stream. Numbers are milliseconds. */
export async function idsBetween(
  streamKey: string,
  { from, to }: { readonly from: string | number; readonly to: string | number },
  reading: Pick<ReadCommands, 'timestampFormat'>,
): Promise<{ from: string; to: string }> {
  if (typeof from === 'string' && typeof to === 'string') return { from, to };
  const format = await reading.timestampFormat(streamKey);
  return {
    from: typeof from === 'string' ? from : timeInIds(from, format),
    to: typeof to === 'string' ? to : lastIdOfMillisecond(to, format),
  };
}
