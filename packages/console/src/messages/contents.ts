import { isUtf8 } from 'node:buffer';
import type { Payload } from '../api.js';
import { PAYLOAD_IN_A_LIST } from '../api.js';

/** How much of a message is shown, in bytes and characters. */
export interface Extent {
  readonly payload: number;
  readonly header: number;
}

export const IN_A_LIST: Extent = Object.freeze({ payload: PAYLOAD_IN_A_LIST, header: 1_024 });
export const BY_ITSELF: Extent = Object.freeze({ payload: 1024 * 1024, header: 64 * 1024 });

/** A payload as a page shows it: as text where the bytes are UTF-8, otherwise in base64. */
export function payloadOf(bytes: Buffer, { payload: limit }: Extent, showPayloads: boolean): Payload {
  const isBinary = !isUtf8(bytes);
  const isCut = bytes.length > limit;
  if (!showPayloads) return { bytes: bytes.length, text: null, isBinary, isCut: false };
  const shown = bytes.subarray(0, isCut && !isBinary ? startOfCharacter(bytes, limit) : limit);
  return { bytes: bytes.length, text: shown.toString(isBinary ? 'base64' : 'utf8'), isBinary, isCut };
}

export function headersOf(headers: Readonly<Record<string, string>>, extent: Extent): Record<string, string> {
  // Any name may be a header, `__proto__` too, which an assignment would not store.
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [shortened(name, extent), shortened(value, extent)]),
  );
}

export function shortened(text: string, { header: limit }: Extent): string {
  return text.length > limit ? `${text.slice(0, limit)}… (${text.length} characters)` : text;
}

/** Where the character begins that the byte at a place belongs to. */
function startOfCharacter(bytes: Buffer, at: number): number {
  let start = at;
  while (start > 0 && ((bytes[start] as number) & 0xc0) === 0x80) start -= 1;
  return start;
}
