import { STREAMS_ON_A_PAGE } from '../api.js';
import type { GroupRow, StreamOrder, StreamRow, StreamsUpdate, View } from '../api.js';
import type { Snapshot } from './stream-sweep.js';

export type StreamsView = Extract<View, { page: 'streams' }>;

/** The page of all streams that a viewer asked for. */
export function streamsUpdate({ rows, isComplete, at }: Snapshot, view: StreamsView, interval: number): StreamsUpdate {
  const { search = '', sort = 'name', isDescending = false, offset = 0 } = view;
  const text = search.toLowerCase();
  const matching = rows.filter(({ stream }) => stream.toLowerCase().includes(text));
  const sorted = matching.sort(comparison(sort, isDescending ? -1 : 1));
  return {
    rows: sorted.slice(offset, offset + STREAMS_ON_A_PAGE),
    matching: matching.length,
    total: rows.length,
    isComplete,
    interval,
    at,
  };
}

type Comparison = (one: StreamRow, other: StreamRow) => number;

const byName: Comparison = (one, other) => (one.stream < other.stream ? -1 : Number(one.stream > other.stream));

/** What is not known comes last in either direction. */
function comparison(sort: StreamOrder, direction: 1 | -1): Comparison {
  if (sort === 'name') return (one, other) => direction * byName(one, other);
  const value = VALUES[sort];
  return (one, other) => {
    const [a, b] = [value(one), value(other)];
    if (a === b) return byName(one, other);
    if (a === null || b === null) return a === null ? 1 : -1;
    return direction * (a - b) || byName(one, other);
  };
}

const VALUES: Readonly<Record<Exclude<StreamOrder, 'name'>, (row: StreamRow) => number | null>> = {
  length: ({ length }) => length,
  memory: ({ memory }) => memory,
  rate: ({ rate }) => rate,
  lag: ({ groups }) => largest(groups, ({ lag }) => lag),
  lagSeconds: ({ groups }) => largest(groups, ({ lagSeconds }) => lagSeconds),
  deadLetters: ({ deadLetters }) => deadLetters,
};

/** Of the group that is behind most; null unless it is known for one. */
function largest(groups: readonly GroupRow[], value: (group: GroupRow) => number | null): number | null {
  const known = groups.map(value).filter((each) => each !== null);
  return known.length === 0 ? null : Math.max(...known);
}

export function isStreamOrder(text: string): text is StreamOrder {
  return text === 'name' || Object.hasOwn(VALUES, text);
}
