import type { Row } from './row.js';

/**
 * The rows in the order of the table. Each is loaded separately, so that a contender's process loads only the modules
 * of its row.
 */
const ROWS = {
  enqueue: () => import('./rows/enqueue.js'),
  send: () => import('./rows/send.js'),
  'exactly-once': () => import('./rows/exactly-once.js'),
  consume: () => import('./rows/consume.js'),
  tail: () => import('./rows/tail.js'),
  'nest-emit': () => import('./rows/nest-emit.js'),
  'nest-telemetry': () => import('./rows/nest-telemetry.js'),
  'nest-request': () => import('./rows/nest-request.js'),
  'nest-latency': () => import('./rows/nest-latency.js'),
  'idle-cpu': () => import('./rows/idle-cpu.js'),
  backlog: () => import('./rows/backlog.js'),
  streams: () => import('./rows/streams.js'),
} satisfies Record<string, () => Promise<{ row: Row }>>;

export type RowName = keyof typeof ROWS;

export const ROW_NAMES = Object.keys(ROWS) as readonly RowName[];

export async function loadRow(name: RowName): Promise<Row> {
  const { row } = await ROWS[name]();
  return row;
}

/** @throws if there is no row with this name */
export function rowNamed(name: string): RowName {
  if (name in ROWS) return name as RowName;
  throw new Error(`There is no benchmark '${name}', only ${ROW_NAMES.join(', ')}`);
}
