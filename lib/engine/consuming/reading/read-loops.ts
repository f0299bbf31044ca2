import { ConsumerEndedError } from '../../../errors.js';
import type { Partition } from '../partition.js';
import { IdleClaimer } from '../recovery/idle-claimer.js';
import type { LoopReport } from './loop-watchdog.js';
import type { ResolvedConsumerOptions } from '../../options/options.js';
import type { ReadDuty } from './read-duty.js';
import { ReadLoop } from './read-loop.js';
import type { ReadLoopOptions } from './read-loop-options.js';
import { readerFor } from './reading-line.js';
import type { ConsumerEnvironment, ReadingLine } from './reading-line.js';
import { RetrySchedule } from '../recovery/retry-schedule.js';
import type { StreamMessage } from '../../messages/stream-message.js';
import type { StreamReader } from './stream-reader.js';

/** One connection that reads, with its loop and what that loop does besides. */
interface Line {
  readonly line: ReadingLine;
  readonly reader: StreamReader;
  readonly loop: ReadLoop;
  readonly retries: RetrySchedule | undefined;
}

export interface LineReport extends LoopReport {
  readonly streams: readonly Partition[];
  /** How often the connection was made anew after a loss. */
  readonly reconnects: number;
}

export interface ReadLoopsOptions extends Pick<
  ReadLoopOptions,
  'batchSize' | 'room' | 'isStuck' | 'hasRoom' | 'onPages' | 'onStreamFailure' | 'onError'
> {
  readonly environment: ConsumerEnvironment;
  readonly consumer: ResolvedConsumerOptions;
  readonly credit: () => number;
  /** A message that waited for its retry has been deleted, or taken by another consumer. */
  readonly onTakenAway: (message: StreamMessage) => void;
}

/**
 * The read loops of one consumer: one for all streams, or in Cluster, where streams of different slots cannot be read
 * together, one for each.
 */
export class ReadLoops {
  readonly #options: ReadLoopsOptions;
  readonly #lines: Line[];
  #isStopped = false;

  constructor(options: ReadLoopsOptions) {
    this.#options = options;
    this.#lines = [];
  }

  /** Fixes the start position of a stream on the server. */
  async open(stream: Partition, isAllNew: boolean): Promise<void> {
    await this.#lineAt(0).reader.open(stream, isAllNew);
  }

  /** From now on these streams are read, and no others. */
  async assign(streams: readonly Partition[]): Promise<void> {
    const { isCluster } = this.#options.environment;
    const parts = isCluster() ? streams.map((stream) => [stream]) : [streams];
    const count = Math.max(parts.length, this.#lines.length);
    await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const { loop } = this.#lineAt(index);
        const part = parts[index] ?? [];
        loop.start(part);
        await loop.setStreams(part);
      }),
    );
  }

  retriesOf(stream: Partition): RetrySchedule | undefined {
    return this.#lines.find(({ loop }) => loop.streams.includes(stream))?.retries;
  }

  /** How each loop is doing, and which streams it reads. */
  reports(): LineReport[] {
    return this.#lines.map(({ loop, line: { connection } }) => {
      return { ...loop.report(), streams: loop.streams, reconnects: connection.reconnects };
    });
  }

  /** Makes the loops look at their streams, and at what is due, anew. */
  async restart(): Promise<void> {
    await Promise.all(this.#lines.map(({ loop }) => loop.restart()));
  }

  /** Runs a change while no loop reads. */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    const held = this.#lines.reduceRight(
      (inner, { loop }) =>
        () =>
          loop.betweenReads(inner),
      change,
    );
    await held();
  }

  /** Afterwards nothing is read, and no more lines are opened. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all(this.#lines.map(({ loop }) => loop.stop()));
  }

  /** @throws ConsumerEndedError after {@link stop} */
  requireRunning(): void {
    if (this.#isStopped) throw new ConsumerEndedError();
  }

  async release(): Promise<void> {
    await Promise.all(this.#lines.map(({ line }) => line.release()));
  }

  #lineAt(index: number): Line {
    return (this.#lines[index] ??= this.#createLine());
  }

  #createLine(): Line {
    // Whoever ends a consumer while it is being opened stops the lines that it has; it must not get another.
    this.requireRunning();
    const { environment, consumer, credit, ...callbacks } = this.#options;
    const line = environment.openLine();
    const reader = readerFor(line, environment, consumer);
    const { retries, duties } = this.#createDuties();
    const loop = new ReadLoop({
      reader,
      duties,
      connection: line.connection,
      interrupt: line.interrupt,
      blockTimeout: environment.blockTimeout,
      credit: () => Math.ceil(credit() / this.#lines.length),
      liveSince: () => laterOf(line.connection.liveSince, environment.controlLiveSince()),
      ...callbacks,
    });
    return { line, reader, loop, retries };
  }

  /** Retries come first: somebody waits for them at a certain time. */
  #createDuties(): { retries: RetrySchedule | undefined; duties: ReadDuty[] } {
    const { group, consumer, mode, autoCommit, autoClaimInterval, autoClaimIdle, batchSize } = this.#options.consumer;
    if (group === undefined) return { retries: undefined, duties: [] };
    const { environment, onTakenAway } = this.#options;
    const { control, logger } = environment;
    const { pending } = control;
    const noAck = autoCommit === 'immediate';
    const retries = noAck ? undefined : new RetrySchedule(pending, group, consumer, logger, onTakenAway);
    const duties: ReadDuty[] = retries ? [retries] : [];
    if (mode === 'load-balanced' && autoClaimInterval !== false) {
      const times = { interval: autoClaimInterval, minIdle: autoClaimIdle };
      duties.push(new IdleClaimer({ pending, group, consumer, batchSize, noAck, logger, ...times }));
    }
    return { retries, duties };
  }
}

/** Undefined when either is. */
function laterOf(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? undefined : Math.max(one, other);
}
