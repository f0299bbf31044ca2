import { createHash } from 'node:crypto';

import type { RedisStreamsError } from '../../../lib/errors.js';
import type { SeededRandom } from './seeded-random.ts';

/** The header, or the beginning of a payload, that names a message: `<producer>:<n>|`. */
const NAME_HEADER = 'name';

/** What became of a message, as far as its sender knows. */
export type Outcome = 'open' | 'confirmed' | 'uncertain' | 'failed' | 'unknown';

/** A message that was sent, without its content. */
export interface SentMessage {
  /** Undefined for the empty messages, which cannot be told from each other. */
  readonly name: string | undefined;
  readonly producer: string;
  readonly n: number;
  /** The key of the stream or, with a sharder, the name before the shard. */
  readonly streamKey: string;
  readonly digest: string;
  readonly sentAt: number;
  settledAt: number;
  /** `unknown` for one that was enqueued: its failure has no name. */
  outcome: Outcome;
  /** Of the receipt. */
  key: string | undefined;
  id: string | undefined;
  error: RedisStreamsError | undefined;
}

export interface Content {
  readonly payload: string | Uint8Array;
  readonly headers: Record<string, string> | undefined;
}

const NOISE_BYTES = 1024 * 1024;
const MAX_PAYLOAD = 200 * 1024;
/** Parts of texts: what RESP consists of, characters of one to four bytes, control characters. */
const WORDS = [
  '\r\n',
  '$5\r\nhello\r\n',
  '*3\r\n',
  '-ERR no\r\n',
  ':1\r\n',
  'plain',
  'é',
  '€',
  '😀',
  '\0',
  '"',
  ' ',
  '0',
];

/** Draws the contents of messages. */
export class ContentSource {
  readonly #random: SeededRandom;
  readonly #bytes: Buffer;
  readonly #text: string;

  constructor(random: SeededRandom) {
    this.#random = random;
    this.#bytes = Buffer.from(Array.from({ length: NOISE_BYTES }, () => random.integer(0, 255)));
    const words: string[] = [];
    for (let length = 0; length < NOISE_BYTES; length += words.at(-1)?.length ?? 0) words.push(random.pick(WORDS));
    this.#text = words.join('');
  }

  /** Content that contains the name. */
  named(name: string): Content {
    const random = this.#random;
    if (random.isTrue(0.5)) return { payload: this.#payload(`${name}|`), headers: undefined };
    const headers: Record<string, string> = { [NAME_HEADER]: name };
    const count = random.integer(0, 4);
    for (let index = 0; index < count; index += 1) headers[`h${index}`] = this.#slice(random.integer(0, 60));
    return { payload: this.#payload(''), headers };
  }

  #payload(start: string): string | Uint8Array {
    const random = this.#random;
    const size = this.#size();
    if (random.isTrue(0.5)) return start + this.#slice(size);
    const at = random.integer(0, NOISE_BYTES - MAX_PAYLOAD);
    return Buffer.concat([Buffer.from(start), this.#bytes.subarray(at, at + size)]);
  }

  #slice(length: number): string {
    const at = this.#random.integer(0, this.#text.length - MAX_PAYLOAD);
    // Half a surrogate pair has no encoding.
    return this.#text.slice(at, at + length).replace(/^[\udc00-\udfff]|[\ud800-\udbff]$/g, '');
  }

  #size(): number {
    const random = this.#random;
    const kind = random.next();
    if (kind < 0.1) return 0;
    if (kind < 0.8) return random.integer(1, 300);
    if (kind < 0.99) return random.integer(300, 8_000);
    return random.integer(8_000, MAX_PAYLOAD);
  }
}

/** The name in a content; undefined when it has none. */
export function nameOf(payload: Buffer, headers: Readonly<Record<string, string>>): string | undefined {
  const inHeader = headers[NAME_HEADER];
  if (inHeader !== undefined) return inHeader;
  const end = payload.subarray(0, 40).indexOf('|');
  return end === -1 ? undefined : payload.toString('latin1', 0, end);
}

/** Equal for the same payload and the same headers, byte for byte. */
export function digestOf(payload: string | Uint8Array, headers: Readonly<Record<string, string>> = {}): string {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  const hash = createHash('sha1').update(`${bytes.length} `).update(bytes);
  return hash.update(JSON.stringify(Object.entries(headers))).digest('base64');
}
