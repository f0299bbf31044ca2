import type { LoadBalancedOptions, RedisStreamsConnection } from '../../lib/index.js';
import { useChildProgram } from './child-program.js';
import { until } from './until.js';

interface StreamTarget {
  readonly connection: RedisStreamsConnection;
  readonly stream: string;
}

export interface ServeInput extends StreamTarget {
  readonly work: 'serve';
  /** Milliseconds that each handler takes. */
  readonly takes: number;
  /** Number of messages in the stream. */
  readonly backlog: number;
}

/** A service in which one message in `every` waits for a retry, or behind one of its key; it reports once all others are handled. */
export interface WaitInput extends StreamTarget {
  readonly work: 'wait';
  readonly ordered: boolean;
  readonly every: number;
  /** Number of messages in the stream. */
  readonly backlog: number;
}

export interface ConsumeInput extends StreamTarget {
  readonly work: 'consume';
  readonly options: LoadBalancedOptions & { autoCommit: 'rolling' };
  readonly read: number;
  /** Pauses after this many messages, long enough for its buffer to become full. */
  readonly pauseEvery?: number;
}

export interface ProduceInput extends StreamTarget {
  readonly work: 'produce';
  readonly by: 'send' | 'enqueue';
  /** Characters of one byte or of two bytes; undefined sends a Buffer. */
  readonly text?: 'narrow' | 'wide' | undefined;
  /** Size of a payload in characters, or in bytes. */
  readonly size: number;
  /** Number of refused sends after which the program stops sending. */
  readonly refusals: number;
}

/** The input of a process with little memory. */
export type MemoryInput = ServeInput | WaitInput | ConsumeInput | ProduceInput;

/** The peak of each kind of memory of the process, in MiB. */
export type Peaks = Record<'rss' | 'heapUsed' | 'external' | 'arrayBuffers', number>;

/** A report of the process, one per line: the stage that it reached, its counts, and its memory. */
export interface MemoryReport {
  readonly at: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly peaks: Peaks;
  /** Heap and buffers in use right after a full garbage collection, in MiB. */
  readonly live: number;
}

export interface MemoryProcess {
  send(command: string): void;
  /** Waits for the report of a stage; fails if the process ends first, as it does when it runs out of memory. */
  report(at: string, limit: number): Promise<MemoryReport>;
}

/** Limit of the old space of the heap in MiB. Buffers are outside of it. */
const OLD_SPACE = 128;

/**
 * Returns a function that starts processes with 128 MiB of heap; processes that still run are killed after the test.
 */
export function useMemoryProcesses(): (input: MemoryInput) => Promise<MemoryProcess> {
  const options = [`--max-old-space-size=${OLD_SPACE}`, '--expose-gc'];
  const start = useChildProgram<MemoryInput, MemoryReport>('./memory-child.ts', options);

  return async (input) => {
    const reports: MemoryReport[] = [];
    const { process, ended } = await start(input, (report) => reports.push(report));
    let ending: string | undefined;
    void ended.then((how) => (ending = String(how)));
    return {
      send: (command) => void process.stdin?.write(`${command}\n`),
      async report(at, limit) {
        const find = (): MemoryReport | undefined => reports.find((report) => report.at === at);
        await until(`the process reports '${at}'`, () => find() !== undefined || ending !== undefined, limit);
        const report = find();
        if (!report) throw new Error(`the process ended with ${ending} before it reported '${at}'`);
        return report;
      },
    };
  };
}
