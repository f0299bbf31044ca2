import { classifyRedisError } from '../../redis/commands/redis-error.js';
import type { GroupCommands, TrimmedStep } from '../../redis/commands/stream-commands.js';
import { check, definedOptions, optionNames } from '../../shared/option-checks.js';

/** Which entries are deleted: those that every group has acknowledged, and no others. */
export interface TrimOptions {
  /**
   * Age in milliseconds, by the clock of Redis, below which entries stay, even if acknowledged, so that they can be read again. At least
   * 0.
   * @defaultValue `0`
   */
  keepFor?: number;
  /**
   * How a dead group counts. `keep`: the entries that it has not acknowledged stay for ever. `ignore`: they are deleted too, once they
   * are older than `deadAfter`.
   * @defaultValue `keep`
   */
  deadGroups?: 'keep' | 'ignore';
  /**
   * For `ignore`: a group is dead when all of its consumers have been idle for this time, in milliseconds, and its last delivered entry
   * is as old. A group that has read nothing and has no consumer is never dead, because it may be about to start. At least 1,000.
   * @defaultValue `604_800_000` (a week)
   */
  deadAfter?: number;
  /**
   * Deletes nothing and reports what would be deleted.
   * @defaultValue `false`
   */
  dryRun?: boolean;
}

/** `retention` of a consumer or a server. */
export interface RetentionOptions extends TrimOptions {
  /**
   * Interval in milliseconds at which a stream is trimmed. At least 100.
   * @defaultValue `60_000`
   */
  interval?: number;
}

/** The result of trimming a stream; with `dryRun`, of a trim that was not made. */
export interface TrimResult {
  /** Key of the stream. */
  readonly streamKey: string;
  /** Deleted entries. A dry run does not count those after the first pending one, which newer servers delete too. */
  readonly trimmed: number;
  /** The first id that is needed; undefined when no group is alive, and therefore nothing was deleted. */
  readonly firstKept: string | undefined;
  /** The group that needs it; undefined when it stays because of `keepFor`. */
  readonly keptFor: string | undefined;
  /** Groups that were ignored. */
  readonly deadGroups: readonly string[];
}

export type ResolvedRetention = Readonly<Required<RetentionOptions>>;

const RETENTION_DEFAULTS: ResolvedRetention = Object.freeze({
  interval: 60_000,
  keepFor: 0,
  deadGroups: 'keep',
  deadAfter: 604_800_000,
  dryRun: false,
});

/** Limits of one step, which must not delay the server's other clients. */
const ENTRIES_PER_STEP = 10_000;
const COUNTED_PER_STEP = 1_000;

const TRIM_OPTIONS = { keepFor: true, deadGroups: true, deadAfter: true, dryRun: true } as const;
const NAMES = {
  retention: optionNames<RetentionOptions>({ interval: true, ...TRIM_OPTIONS }),
  /** A trim that is asked for is not repeated. */
  options: optionNames<TrimOptions>(TRIM_OPTIONS),
} as const;

/** @param at what the options are called @throws InvalidOptionError */
export function resolveRetention(options: RetentionOptions, at: keyof typeof NAMES = 'retention'): ResolvedRetention {
  check.options(at, options, NAMES[at]);
  const resolved: ResolvedRetention = { ...RETENTION_DEFAULTS, ...definedOptions(options) };
  check.time(`${at}.interval`, resolved.interval, 100);
  check.integer(`${at}.keepFor`, resolved.keepFor, 0);
  check.oneOf(`${at}.deadGroups`, resolved.deadGroups, ['keep', 'ignore']);
  check.integer(`${at}.deadAfter`, resolved.deadAfter, 1_000);
  check.boolean(`${at}.dryRun`, resolved.dryRun);
  return resolved;
}

/** Trims in steps until no entry is left to delete. A stream that does not exist has none. */
export async function trimAcknowledged(
  streamKey: string,
  options: ResolvedRetention,
  commands: Pick<GroupCommands, 'trimAcknowledged'>,
  isStopped: () => boolean = () => false,
): Promise<TrimResult> {
  const deadAfter = options.deadGroups === 'ignore' ? options.deadAfter : undefined;
  const keepFor = options.keepFor > 0 ? options.keepFor : undefined;
  const step = (limit: number | undefined, dryRunFrom?: string): Promise<TrimmedStep> =>
    commands.trimAcknowledged(streamKey, { deadAfter, keepFor, limit, dryRunFrom });
  let trimmed = 0;
  try {
    let last: TrimmedStep;
    if (options.dryRun) {
      last = await step(COUNTED_PER_STEP, '-');
      for (trimmed = last.trimmed; last.next !== undefined && !isStopped(); trimmed += last.trimmed) {
        last = await step(COUNTED_PER_STEP, last.next);
      }
    } else {
      do {
        last = await step(ENTRIES_PER_STEP);
        trimmed += last.trimmed;
      } while (last.trimmed > 0 && !isStopped());
      // The steps above delete whole nodes of the stream. The exact step deletes the few entries left in the last node.
      last = await step(undefined);
      trimmed += last.trimmed;
    }
    const { firstKept, keptFor, deadGroups } = last;
    return { streamKey, trimmed, firstKept, keptFor, deadGroups };
  } catch (error) {
    if (classifyRedisError(error) !== 'stream-gone') throw error;
    return { streamKey, trimmed, firstKept: undefined, keptFor: undefined, deadGroups: [] };
  }
}
