import type { FieldSchema } from './field-schema.js';

/** One entry as Redis returned it. */
export interface StreamEntry {
  readonly id: string;
  /** Names and values in turn; null when the entry was deleted while it was pending. */
  readonly fields: readonly Buffer[] | null;
  /** Number of deliveries that the server has counted, including this one. */
  readonly deliveryCount: number;
  /** An earlier process may have begun it: `deliveryCount` includes a start that is counted on the server when it happens. */
  readonly isSuspect?: boolean | undefined;
  /** Schema of the fields, when the decoder has determined it. */
  readonly schema?: FieldSchema | undefined;
}

/** The entries of one stream that one read returned. */
export interface StreamPage {
  readonly streamKey: string;
  readonly entries: StreamEntry[];
}

/** Replies as RESP2 nests them; an entry that XREADGROUP … CLAIM took over has its idle time and deliveries behind. */
type RawEntry = [id: Buffer, fields: Buffer[] | null, idle?: unknown, deliveries?: unknown] | null;
type RawPage = [key: Buffer, entries: RawEntry[] | null];

/** The decoded reply to XREAD or XREADGROUP; null means that no entry arrived within the block time. */
export function pagesOf(reply: unknown, streamKey: (key: string) => string): StreamPage[] {
  if (!Array.isArray(reply)) return [];
  return (reply as RawPage[]).map(([key, entries]) => ({
    streamKey: streamKey(key.toString()),
    entries: entriesOf(entries),
  }));
}

/**
 * Joins the pages of two reads to one for each stream. Without a group both reads begin at the same position, so that the second
 * repeats the entry that the first has found.
 */
export function joinedPages(first: readonly StreamPage[], second: readonly StreamPage[]): StreamPage[] {
  const rest = new Map(second.map(({ streamKey, entries }) => [streamKey, entries]));
  const both = first.map(({ streamKey, entries }) => {
    const others = rest.get(streamKey) ?? [];
    rest.delete(streamKey);
    const repeated = others[0]?.id === entries.at(-1)?.id ? 1 : 0;
    return { streamKey, entries: entries.concat(others.slice(repeated)) };
  });
  return [...both, ...Array.from(rest, ([streamKey, entries]) => ({ streamKey, entries }))];
}

/** The decoded entries of XRANGE, XCLAIM or a page. Before Redis 7.0, XCLAIM returns null for a deleted entry. */
export function entriesOf(reply: unknown): StreamEntry[] {
  if (!Array.isArray(reply)) return [];
  const entries: StreamEntry[] = [];
  for (const raw of reply as RawEntry[]) {
    if (raw === null) continue;
    entries.push({ id: raw[0].toString('latin1'), fields: raw[1], deliveryCount: deliveriesOf(raw) });
  }
  return entries;
}

/** Bytes that are kept may be this many times those that are needed. */
const MOST_KEPT = 2;

/**
 * The same fields without the bytes in which they arrived, of which they are parts: copies, unless these bytes are not much
 * more than the fields themselves.
 */
export function detached(fields: readonly Buffer[]): readonly Buffer[] {
  const arrived = new Set(fields.map(({ buffer }) => buffer));
  const kept = [...arrived].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const size = fields.reduce((sum, { length }) => sum + length, 0);
  if (kept <= MOST_KEPT * size) return fields;
  const own = Buffer.allocUnsafeSlow(size);
  let end = 0;
  return fields.map((field) => {
    const start = end;
    end += field.copy(own, start);
    return own.subarray(start, end);
  });
}

/** Claimed entries carry the number of earlier deliveries; new ones carry 0 or nothing. */
function deliveriesOf(raw: NonNullable<RawEntry>): number {
  const before = Number(raw[3] ?? 0);
  return Number.isFinite(before) ? before + 1 : 1;
}
