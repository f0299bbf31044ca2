/**
 * Characters that a terminal obeys or does not show: control characters, characters that change the direction of text or are
 * invisible, line separators, and unpaired surrogates. Names and payloads come from any producer.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** The escape of JSON, which is two escapes for a character beyond 16 bits. */
const escaped = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
  ).join('');

/** Text for a terminal, with escapes such as `\u001b` for unsafe characters. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => {
    if (character === '\n') return '\\n';
    if (character === '\r') return '\\r';
    if (character === '\t') return '\\t';
    return escaped(character);
  });
}

/** JSON on one line, with escapes for unsafe characters; the parsed value is the same. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value).replace(UNSAFE, escaped);
}

/** UTF-8 as text; other bytes as base64, marked. */
export function printableBytes(bytes: Uint8Array, longest = Infinity): string {
  const cut = bytes.length > longest;
  const text = utf8(cut ? bytes.subarray(0, longest) : bytes, cut);
  const shown =
    text === undefined ? `base64:${Buffer.from(bytes.subarray(0, longest)).toString('base64')}` : printable(text);
  return cut ? `${shown}… (${bytes.length} bytes)` : shown;
}

/** @param isCut whether a character may be incomplete at the end @returns undefined for other bytes */
export function utf8(bytes: Uint8Array, isCut = false): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes, { stream: isCut });
  } catch {
    return undefined;
  }
}
