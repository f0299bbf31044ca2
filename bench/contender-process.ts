import type { Setting } from './row.js';
import { loadRow } from './rows.js';
import type { RowName } from './rows.js';
import { measuresOf } from './statistics.js';
import type { Measures } from './statistics.js';

/** Identifies the contender that the process runs. */
export interface Orders {
  readonly row: RowName;
  readonly entrant: string;
  /** Name of one of the two sides of a comparison. */
  readonly side?: string;
  readonly setting: Setting;
  /** Environment variables of the process, in addition to ours; undefined removes one. */
  readonly env?: NodeJS.ProcessEnv;
}

export type Request = 'round' | 'close';

/** The answer to the start and to each request. */
export interface Answer {
  readonly measures?: Measures;
  /** Of the messages of a round, where each is timed, in milliseconds. */
  readonly latencies?: readonly number[];
  /** Resident memory in bytes after the work. */
  readonly memory?: number;
  /** Bytes of the heap and its buffers after all rounds and a collection of the garbage. */
  readonly heap?: number;
  readonly failure?: string;
}

const orders = JSON.parse(process.argv[2] as string) as Orders;

// Each contender has its own process, so that it shares no heap, optimized code or garbage with the others.
async function open(): Promise<(request: Request) => Promise<Answer>> {
  const row = await loadRow(orders.row);
  const entrant = row.entrants.find(({ name }) => name === orders.entrant);
  if (!entrant) throw new Error(`'${orders.row}' has no entrant '${orders.entrant}'`);
  const contender = await entrant.open(orders.setting);
  await contender.reset?.();
  return async (request) => {
    if (request === 'close') {
      // Not between rounds: V8 also drops the optimised code whose objects it collects, and no service asks for that.
      globalThis.gc?.();
      const { heapUsed, external } = process.memoryUsage();
      await contender.close();
      return { heap: heapUsed + external };
    }
    const cpuBefore = process.cpuUsage();
    const start = performance.now();
    const work = await contender.work();
    const elapsed = performance.now() - start;
    const { user, system } = process.cpuUsage(cpuBefore);
    const own = { elapsed, cpu: (user + system) / 1_000, memory: process.memoryUsage.rss() };
    await contender.check?.();
    await contender.reset?.();
    const { latencies = [], program: cost = own } = work;
    return { measures: measuresOf(work, cost), latencies, memory: cost.memory };
  };
}

async function answer(work: () => Promise<Answer>): Promise<void> {
  try {
    process.send?.(await work());
  } catch (error) {
    process.send?.({ failure: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
}

// The process that measures has ended, or has closed this contender.
process.once('disconnect', () => process.exit());

await answer(async () => {
  const handle = await open();
  process.on('message', (request) => void answer(() => handle(request as Request)));
  return {};
});
