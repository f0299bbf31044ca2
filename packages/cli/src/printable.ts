/**
 * What a terminal obeys in place of showing it: control characters, those that change the direction of text or cannot be seen,
 * other ends of lines, and halves of characters. A name or payload may have been written by anyone.
 */
const UNSAFE = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

/** In JSON as elsewhere: a character beyond 16 bits has two. */
const escaped = (character: string): string =>
  Array.from(
    { length: character.length },
    (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
  ).join('');

/** Text for a terminal: what it would obey is shown as `\u001b`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => {
    if (character === '\n') return '\\n';
    if (character === '\r') return '\\r';
    if (character === '\t') return '\\t';
    return escaped(character);
  });
}

/** JSON on one line, which a terminal only shows; the value that it stands for is unchanged. */
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
