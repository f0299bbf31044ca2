import { createHash } from 'node:crypto';

/** Longer parts are shown by their digest: Jest compares Buffers byte by byte, which takes seconds for 1 MB. */
const MAX_SHOWN = 300;

/** Names and values in turn as text that is the same only for the same bytes, so that a difference can be read. */
export function fieldText(fields: ReadonlyArray<string | Uint8Array>): string[] {
  return fields.map((field) => {
    const bytes = Buffer.from(field as string);
    if (bytes.length <= MAX_SHOWN) return bytes.toString('latin1');
    return `${bytes.length} bytes with the digest ${createHash('sha1').update(bytes).digest('hex')}`;
  });
}
