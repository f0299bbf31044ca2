import type { Setting } from './row.js';
import { loadRow } from './rows.js';
import type { RowName } from './rows.js';
import { measuresOf } from './statistics.js';
import type { Measures } from './statistics.js';

/** Which contender the process is. */
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

/** The answer to being started, and to each request. */
export interface Answer {
  readonly measures?: Measures;
  /** Bytes of resident memory, when the work was done. */
  readonly memory?: number;
  readonly failure?: string;
}

const orders = JSON.parse(process.argv[2] as string) as Orders;

// A contender alone in its process shares no heap, no optimised code and no garbage with what it is compared with.
async function open(): Promise<(request: Request) => Promise<Answer>> {
  const row = await loadRow(orders.row);
  const entrant = row.entrants.find(({ name }) => name === orders.entrant);
  if (!entrant) throw new Error(`'${orders.row}' has no entrant '${orders.entrant}'`);
  const contender = await entrant.open(orders.setting);
  await contender.reset?.();
  return async (request) => {
    if (request === 'close') {
      await contender.close();
      return {};
    }
    // What earlier rounds left behind must not be cleaned up on the time of this one.
    globalThis.gc?.();
    const cpuBefore = process.cpuUsage();
    const start = performance.now();
    const work = await contender.work();
    const elapsed = performance.now() - start;
    const { user, system } = process.cpuUsage(cpuBefore);
    const memory = process.memoryUsage.rss();
    await contender.reset?.();
    return { measures: measuresOf(work, elapsed, (user + system) / 1_000), memory };
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
