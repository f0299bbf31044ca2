import type { PeerName } from './peers/build.js';

/**
 * The metrics: messages (`rate`) or bytes of payload (`byteRate`) per second, microseconds of time (`cost`), of this process's
 * CPU (`cpu`) or of the server's CPU (`serverCpu`) per message, milliseconds of latency (`p50`, `p99`), percent of one core
 * (`cpuShare`), milliseconds of an import (`importTime`) and bytes of resident memory (`memory`).
 */
export type Metric =
  'rate' | 'byteRate' | 'cost' | 'cpu' | 'serverCpu' | 'p50' | 'p99' | 'cpuShare' | 'importTime' | 'memory';

/** Metrics of which more is better; of the others less is better. */
export const MORE_IS_BETTER: ReadonlySet<Metric> = new Set(['rate', 'byteRate']);

/** The server and the size of a run. */
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

/** What a round cost a process: milliseconds of time and of CPU, and its resident memory in bytes after the round. */
export interface ProcessCost {
  readonly elapsed: number;
  readonly cpu: number;
  readonly memory: number;
}

/** Milliseconds of the import of the package, and bytes of resident memory above those of another process. */
export interface Footprint {
  readonly importTime: number;
  readonly memory: number;
}

/** The result of one round. A contender that stays idle has no `messages`, but percent of a core or a footprint. */
export interface Work {
  readonly messages?: number;
  /** Bytes of payload of all messages. */
  readonly bytes?: number;
  /** Milliseconds of CPU that the server has used, where it is measured. */
  readonly serverCpu?: number;
  /** Milliseconds, one for each message. */
  readonly latencies?: readonly number[];
  /** What a process cost that did nothing. */
  readonly footprint?: Footprint;
  /** The cost for a program that did the work in place of the contender's process. */
  readonly program?: ProcessCost;
}

/** Does the work of a row, in its own process. */
export interface Contender {
  /** Removes everything that a round has left; runs before the first round and after each, and is not measured. */
  reset?(): Promise<void>;
  /** Runs one measured round. */
  work(): Promise<Work>;
  /** Throws if a round has not left what it should; runs after each, before `reset`, and is not measured. */
  check?(): Promise<void>;
  close(): Promise<void>;
}

export interface Entrant {
  readonly name: string;
  /** Does not use this package; measured for comparison, without a target. */
  readonly isPeer?: true;
  open(setting: Setting): Promise<Contender>;
}

/** The target of the median: a multiple of the baseline's median if the row has a baseline. */
export interface Target {
  readonly entrant: string;
  readonly metric: Metric;
  readonly atLeast?: number;
  readonly atMost?: number;
}

/** One line of the table, a module in `rows`. */
export interface Row {
  readonly title: string;
  /** The exact work, so that a reader can judge whether the comparison is fair. */
  readonly note: string;
  readonly metrics: readonly Metric[];
  /** Name of the entrant to which the others are compared. */
  readonly baseline?: string;
  readonly entrants: readonly Entrant[];
  readonly targets: readonly Target[];
  /** In place of the targets, where the package is measured beside its peers: what it has yet to reach. */
  readonly goals?: readonly Target[];
  /** The peer's program, without which there is nothing to measure. */
  readonly needs?: PeerName;
  /** Multiplies the number of messages, where a round would be too short for its fixed costs not to count. Default 1. */
  readonly scale?: number;
  /** Default 7. */
  readonly rounds?: number;
  /** Warm-up rounds, which do not count. Default 2. */
  readonly warmUps?: number;
  /** Runs all entrants at once, for work that takes time but no CPU. Default false. */
  readonly isParallel?: true;
  /** Done once for each setting, before the entrants are there. */
  setUp?(setting: Setting): Promise<void>;
}

/** Every key of the suite begins with it and is removed after the row. The Rust reference allows no colon in a key. */
export const KEY_PREFIX = 'bench.';
