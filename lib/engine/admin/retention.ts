import { InvalidOptionError } from '../../errors.js';
import { classifyRedisError } from '../../redis/commands/redis-error.js';
import type { GroupCommands, TrimmedStep } from '../../redis/commands/stream-commands.js';
import { check } from '../options/option-checks.js';

/** What of a stream may go: entries that every group has acknowledged, and no others. */
export interface TrimOptions {
  /** Entries stay for as long, though acknowledged, so that they can be read again; milliseconds. Default 0. */
  keepFor?: number;
  /**
   * What a group that nobody uses any more counts for: `keep` what it has not acknowledged, for ever; or `ignore` it. Then
   * what it has not acknowledged goes too, once that is older than `deadAfter`. Default `keep`.
   */
  deadGroups?: 'keep' | 'ignore';
  /**
   * For `ignore`: a group is dead when none of its consumers has asked for anything for so long, and the last message that
   * it was given is as old; milliseconds. A group that has read nothing and has no consumer is never dead, for it may be
   * about to begin. Default 604,800,000, a week.
   */
  deadAfter?: number;
  /** Deletes nothing and says what would go. Default false. */
  dryRun?: boolean;
}

/** `retention` of a consumer or a server. */
export interface RetentionOptions extends TrimOptions {
  /** Milliseconds between two times that a stream is trimmed. Default 60,000. */
  interval?: number;
}

/** What trimming a stream did, or with `dryRun` would do. */
export interface TrimResult {
  readonly streamKey: string;
  /** How many entries went. A dry run does not count those behind the first that is pending, which newer servers delete too. */
  readonly trimmed: number;
  /** The first id that may have to stay; undefined when no group is alive, and so nothing was deleted. */
  readonly firstKept: string | undefined;
  /** The group that still needs it; undefined when it stays for `keepFor`. */
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

/** One step must not hold up a server's other clients. */
const ENTRIES_PER_STEP = 10_000;
const COUNTED_PER_STEP = 1_000;

/** @throws InvalidOptionError */
export function resolveRetention(options: RetentionOptions, at = 'retention'): ResolvedRetention {
  if (typeof options !== 'object' || options === null) throw new InvalidOptionError(at, 'must be an object', options);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const resolved: ResolvedRetention = { ...RETENTION_DEFAULTS, ...given };
  check.integer(`${at}.interval`, resolved.interval, 100);
  check.integer(`${at}.keepFor`, resolved.keepFor, 0);
  check.oneOf(`${at}.deadGroups`, resolved.deadGroups, ['keep', 'ignore']);
  check.integer(`${at}.deadAfter`, resolved.deadAfter, 1_000);
  check.boolean(`${at}.dryRun`, resolved.dryRun);
  return resolved;
}

/** Trims in steps until nothing more may go. A stream that does not exist has nothing to trim. */
export async function trimAcknowledged(
  streamKey: string,
  options: ResolvedRetention,
  commands: Pick<GroupCommands, 'trimAcknowledged'>,
  isStopped: () => boolean = () => false,
): Promise<TrimResult> {
  const deadAfter = options.deadGroups === 'ignore' ? options.deadAfter : undefined;
  const keepFrom = options.keepFor > 0 ? `${Math.max(0, Date.now() - options.keepFor)}-0` : undefined;
  const step = (limit: number | undefined, dryRunFrom?: string): Promise<TrimmedStep> =>
    commands.trimAcknowledged(streamKey, { deadAfter, keepFrom, limit, dryRunFrom });
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
      // Whole nodes of the stream are gone; what is left of the last one is little.
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
