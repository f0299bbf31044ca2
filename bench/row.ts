/**
 * What can be compared: messages per second (`rate`), microseconds of time (`cost`) or of this process's CPU (`cpu`) per
 * message, milliseconds of waiting (`p50`, `p99`), and percent of one core (`cpuShare`).
 */
export type Metric = 'rate' | 'cost' | 'cpu' | 'p50' | 'p99' | 'cpuShare';

/** Of which more is better; of the others less is. */
export const MORE_IS_BETTER: ReadonlySet<Metric> = new Set(['rate']);

/** Where and how large. */
export interface Setting {
  readonly url: string;
  /** URLs of the masters of a cluster, which is used in place of the server. Contenders without this package ignore it. */
  readonly cluster?: readonly string[];
  /** Begins with {@link KEY_PREFIX}, as does every key. */
  readonly keyPrefix: string;
  /** Hash tags of the streams, where the messages are to be spread over several; in a cluster they choose the masters. */
  readonly hashTags?: readonly string[];
  /** 1 measures what the table says; less is for trying the suite out. */
  readonly scale: number;
}

/** What one round brought. A contender that was given no messages, because it is idle, has no `messages`. */
export interface Work {
  readonly messages?: number;
  /** Milliseconds, one for each message. */
  readonly latencies?: readonly number[];
}

/** Something that does the work of a row, in a process of its own. */
export interface Contender {
  /** Outside of the time that is measured, before the first round and after each: leaves nothing of a round behind. */
  reset?(): Promise<void>;
  /** One round, which is measured. */
  work(): Promise<Work>;
  close(): Promise<void>;
}

export interface Entrant {
  readonly name: string;
  /** Does not use this package; measured for comparison, without a target. */
  readonly isPeer?: true;
  open(setting: Setting): Promise<Contender>;
}

/** What the median must be: a multiple of the baseline's where the row has one. */
export interface Target {
  readonly entrant: string;
  readonly metric: Metric;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** One line of the table, a module in `rows`. */
export interface Row {
  readonly title: string;
  /** What exactly is done, for a reader who wants to judge whether it is fair. */
  readonly note: string;
  readonly metrics: readonly Metric[];
  /** Name of the entrant that the others are measured against. */
  readonly baseline?: string;
  readonly entrants: readonly Entrant[];
  readonly targets: readonly Target[];
  /** Default 7. */
  readonly rounds?: number;
  /** Rounds before those, which do not count. Default 2. */
  readonly warmUps?: number;
  /** All entrants at once, for work that takes time and nothing else. Default false. */
  readonly isParallel?: true;
  /** Done once for each setting, before the entrants are there. */
  setUp?(setting: Setting): Promise<void>;
}

/** Every key of the suite begins with it and is removed after the row. */
export const KEY_PREFIX = 'bench:';
