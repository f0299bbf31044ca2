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
  'nest-burst': () => import('./rows/nest-burst.js'),
  'nest-telemetry': () => import('./rows/nest-telemetry.js'),
  'nest-request': () => import('./rows/nest-request.js'),
  'nest-latency': () => import('./rows/nest-latency.js'),
  'idle-cpu': () => import('./rows/idle-cpu.js'),
  footprint: () => import('./rows/footprint.js'),
  backlog: () => import('./rows/backlog.js'),
  streams: () => import('./rows/streams.js'),
  'c-enqueue': async () => ({ row: (await import('./rows/beside-c.js')).enqueue }),
  'c-consume': async () => ({ row: (await import('./rows/beside-c.js')).consume }),
  'c-tail': async () => ({ row: (await import('./rows/beside-c.js')).tail }),
  'rust-send': async () => ({ row: (await import('./rows/beside-rust.js')).send }),
  'rust-send-awaited': async () => ({ row: (await import('./rows/beside-rust.js')).sendAwaited }),
  'rust-rolling': async () => ({ row: (await import('./rows/beside-rust.js')).rolling }),
  'rust-rolling-1000': async () => ({ row: (await import('./rows/beside-rust.js')).rollingByThousand }),
  'rust-commit-1000': async () => ({ row: (await import('./rows/beside-rust.js')).commitEachThousand }),
  'rust-commit-at-end': async () => ({ row: (await import('./rows/beside-rust.js')).commitAtEnd }),
  'rust-tail': async () => ({ row: (await import('./rows/beside-rust.js')).tail }),
  'nats-emit': () => import('./rows/nats-emit.js'),
  'growth-head': async () => ({ row: (await import('./growth/backlog.js')).head }),
  'growth-head-tail': async () => ({ row: (await import('./growth/backlog.js')).headTail }),
  'growth-whole': async () => ({ row: (await import('./growth/backlog.js')).whole }),
  'growth-whole-tail': async () => ({ row: (await import('./growth/backlog.js')).wholeTail }),
  'growth-streams-enqueue': async () => ({ row: (await import('./growth/streams.js')).produced }),
  'growth-streams-consume': async () => ({ row: (await import('./growth/streams.js')).consumed }),
  'growth-streams-tail': async () => ({ row: (await import('./growth/streams.js')).tailed }),
  'growth-payloads-enqueue': async () => ({ row: (await import('./growth/payloads.js')).produced }),
  'growth-payloads-consume': async () => ({ row: (await import('./growth/payloads.js')).consumed }),
  'growth-payloads-tail': async () => ({ row: (await import('./growth/payloads.js')).tailed }),
  'growth-beside-pending': async () => ({ row: (await import('./growth/pending.js')).besidePending }),
  'growth-take-over': async () => ({ row: (await import('./growth/pending.js')).takeOver }),
} satisfies Record<string, () => Promise<{ row: Row }>>;

export type RowName = keyof typeof ROWS;

const ROW_NAMES = Object.keys(ROWS) as readonly RowName[];

/** Rows beside programs that are built for them. */
const BESIDE_PROGRAMS: readonly RowName[] = ROW_NAMES.filter((name) => /^(c|rust|nats)-/.test(name));

/** Rows in which only a size grows. */
export const GROWTH: readonly RowName[] = ROW_NAMES.filter((name) => name.startsWith('growth-'));

/** The rows of the table. */
export const TABLE: readonly RowName[] = ROW_NAMES.filter(
  (name) => !BESIDE_PROGRAMS.includes(name) && !GROWTH.includes(name),
);

/** The rows beside peers: programs of their own, and Nest's own transport. */
export const BESIDE_PEERS: readonly RowName[] = [
  ...BESIDE_PROGRAMS,
  'nest-emit',
  'nest-burst',
  'nest-request',
  'nest-latency',
  'footprint',
];

export async function loadRow(name: RowName): Promise<Row> {
  const { row } = await ROWS[name]();
  return row;
}

/** @throws if there is no row with this name */
export function rowNamed(name: string): RowName {
  if (name in ROWS) return name as RowName;
  throw new Error(`There is no benchmark '${name}', only ${ROW_NAMES.join(', ')}`);
}
