import { HEADER_PREFIX } from '../../constants.js';
import { InvalidOptionError } from '../../errors.js';
import { check } from '../options/option-checks.js';

/** A message's content: stored as it is, never wrapped. */
export type Payload = string | Uint8Array;

export interface SendOptions {
  /** Becomes the id's time. Must not be before the stream's last entry. Default: the server's clock. */
  timestamp?: Date;
  /** Picks the shard with {@link KeyHashSharder}. It is not stored. */
  key?: string;
  /** Stored beside the payload, each in a field `h:<name>`. */
  headers?: Record<string, string>;
}

/** How many bytes a payload is in Redis. @throws InvalidOptionError */
export function bytesOf(payload: Payload): number {
  if (typeof payload === 'string') return Buffer.byteLength(payload);
  if (payload instanceof Uint8Array) return payload.length;
  throw new InvalidOptionError('payload', 'must be a string or a Uint8Array', payload);
}

/** What a payload takes here while it waits: a string with a character outside of Latin-1 has two bytes for each. */
export function heldBytes(payload: Payload, bytes: number): number {
  return bytes === payload.length ? bytes : Math.max(bytes, 2 * payload.length);
}

/** Names of headers are few; one string for each, and not a new one for each message, saves looking through it again. */
const MAX_KEPT_NAMES = 1_000;
const fieldNames = new Map<string, string>();

/** The field in which a header is stored. */
function fieldOf(header: string): string {
  let field = fieldNames.get(header);
  if (field === undefined) {
    field = HEADER_PREFIX + header;
    if (fieldNames.size < MAX_KEPT_NAMES) fieldNames.set(header, field);
  }
  return field;
}

/** The fields of headers, names and values in turn. @throws InvalidOptionError */
export function headerFields(headers: Record<string, string>): string[] {
  const fields: string[] = [];
  for (const name of Object.keys(headers)) {
    const value = headers[name];
    if (typeof value !== 'string') throw new InvalidOptionError(`headers.${name}`, 'must be a string', value);
    fields.push(fieldOf(name), value);
  }
  return fields;
}

/** About how many bytes these are. */
export function lengthOf(fields: readonly string[]): number {
  return fields.reduce((sum, { length }) => sum + length, 0);
}

/** The id that a message asks for. @throws InvalidOptionError */
export function entryIdFor(timestamp: Date | undefined): string {
  if (timestamp === undefined) return '*';
  check.date('timestamp', timestamp);
  return `${timestamp.getTime()}-*`;
}
