import type { LoadBalancedOptions } from '../../lib/index.js';
import { useChildProgram } from './child-program.js';
import { until } from './until.js';

interface Place {
  readonly url: string;
  readonly stream: string;
}

export interface ServeOrders extends Place {
  readonly work: 'serve';
  /** Milliseconds that each handler takes. */
  readonly takes: number;
  /** How many messages there are. */
  readonly backlog: number;
}

export interface ConsumeOrders extends Place {
  readonly work: 'consume';
  readonly options: LoadBalancedOptions & { autoCommit: 'rolling' };
  readonly read: number;
  /** Rests after so many messages, long enough for its buffer to become full. */
  readonly restEvery?: number;
}

export interface ProduceOrders extends Place {
  readonly work: 'produce';
  readonly by: 'send' | 'enqueue';
  /** One byte for a character, or two; undefined sends bytes. */
  readonly text?: 'narrow' | 'wide' | undefined;
  /** Characters, or bytes, of a payload. */
  readonly size: number;
  /** How many sends are to be refused. */
  readonly beyond: number;
}

/** What a process with little memory is told to do. */
export type MemoryOrders = ServeOrders | ConsumeOrders | ProduceOrders;

/** The most of each kind that the process had at any time, in MiB. */
export type Peaks = Record<'rss' | 'heapUsed' | 'external' | 'arrayBuffers', number>;

/** What the process says, a line each: how far it is, what it counted until then, and its memory. */
export interface MemoryReport {
  readonly at: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly peaks: Peaks;
  /** Heap and buffers that are in use right after a full collection, in MiB. */
  readonly live: number;
}

export interface MemoryProcess {
  tell(word: string): void;
  /** Fails when the process ends without it, as it does when its memory is used up. */
  report(at: string, limit: number): Promise<MemoryReport>;
}

/** MiB of heap for what lives long. Buffers are not in it. */
const OLD_SPACE = 128;

/** Lets a test file start processes that have 128 MiB of heap; those that are left end with the test. */
export function useMemoryProcesses(): (orders: MemoryOrders) => Promise<MemoryProcess> {
  const options = [`--max-old-space-size=${OLD_SPACE}`, '--expose-gc'];
  const start = useChildProgram<MemoryOrders, MemoryReport>('./memory-child.ts', options);

  return async (orders) => {
    const reports: MemoryReport[] = [];
    const { process, ended } = await start(orders, (report) => reports.push(report));
    let ending: string | undefined;
    void ended.then((how) => (ending = String(how)));
    return {
      tell: (word) => void process.stdin?.write(`${word}\n`),
      async report(at, limit) {
        const find = (): MemoryReport | undefined => reports.find((report) => report.at === at);
        await until(`the process says '${at}'`, () => find() !== undefined || ending !== undefined, limit);
        const report = find();
        if (!report) throw new Error(`the process ended with ${ending} before it said '${at}'`);
        return report;
      },
    };
  };
}
