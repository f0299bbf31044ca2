import { parseArgs } from 'node:util';

import { BESIDE_PEERS, GROWTH, TABLE, rowNamed } from './rows.js';
import type { RowName } from './rows.js';

const MODES = ['targets', 'peers', 'growth', 'against', 'cluster', 'wire-table'] as const;

/** `targets` measures what the table promises, `peers` what it has yet to reach beside its peers, `growth` what costs more as sizes grow; the others compare two ways to run the same contenders. */
type Mode = (typeof MODES)[number];

export interface Options {
  readonly mode: Mode;
  /** The other checkout of `against`. */
  readonly other: string;
  readonly rows: readonly RowName[];
  readonly rounds: number | undefined;
  /** How many streams are spread over a cluster. */
  readonly streams: number;
  readonly scale: number;
  /** The largest size of a series that grows. */
  readonly largest: number | undefined;
  readonly out: string | undefined;
}

/** A consumer of a cluster opens a connection for each stream; with four times the messages the cost of a message counts. */
const CLUSTER = 4;
const QUICK = 0.05;
const STREAMS = 12;

const ROWS_OF_MODE: Readonly<Record<Mode, readonly RowName[]>> = {
  targets: TABLE,
  peers: BESIDE_PEERS,
  growth: GROWTH,
  against: TABLE,
  cluster: ['enqueue', 'send', 'consume', 'tail'],
  'wire-table': ['enqueue', 'send', 'consume', 'tail', 'nest-request'],
};

/** @throws when an argument is unknown or has no valid value */
export function readOptions(args: string[]): Options {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      /** Measures beside programs in other languages and Nest's transport, and checks the goals. */
      peers: { type: 'boolean', default: false },
      /** Measures what a message costs as backlogs, streams, payloads and pending lists grow. */
      growth: { type: 'boolean', default: false },
      /** Of `growth`: the largest size of a series. */
      largest: { type: 'string' },
      /** Compares the library of this checkout with that of another one, which has been built. */
      against: { type: 'string', default: '' },
      /** Compares a cluster of three masters with one server. */
      cluster: { type: 'boolean', default: false },
      /** Compares the library's own wire with ioredis, on one server and on a cluster. */
      'wire-table': { type: 'boolean', default: false },
      /** In place of the row's own number, or of 3 for each comparison. */
      rounds: { type: 'string' },
      streams: { type: 'string' },
      /** Where the results go. Only `targets` and `peers` have a default. */
      out: { type: 'string' },
      /** A twentieth of the work, to see that everything runs. Says nothing about speed. */
      quick: { type: 'boolean', default: false },
    },
  });
  const modes = MODES.filter((mode) => mode !== 'targets' && values[mode]);
  if (modes.length > 1) throw new Error(`--${modes.join(' and --')} exclude each other`);
  const [mode = 'targets'] = modes;
  return {
    mode,
    other: values.against,
    rows: positionals.length === 0 ? ROWS_OF_MODE[mode] : positionals.map(rowNamed),
    rounds: values.rounds === undefined ? undefined : positiveInteger('rounds', values.rounds),
    streams: values.streams === undefined ? STREAMS : positiveInteger('streams', values.streams),
    scale: values.quick ? QUICK : mode === 'cluster' ? CLUSTER : 1,
    largest: values.largest === undefined ? undefined : positiveInteger('largest', values.largest),
    out: values.out,
  };
}

function positiveInteger(option: string, value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1)
    throw new Error(`--${option} must be a positive integer, not '${value}'`);
  return number;
}
