import { DEAD_LETTER_HEADERS } from '../../lib/engine.js';

type OwnHeaders = Partial<Record<keyof typeof DEAD_LETTER_HEADERS, string>>;

/**
 * The fields of a dead letter as they are stored.
 * @param own what the library adds
 * @param headers those of the message
 */
export function deadLetterFields(
  payload: string,
  own: OwnHeaders,
  headers: Readonly<Record<string, string>> = {},
): string[] {
  const names = Object.keys(own) as Array<keyof OwnHeaders>;
  const added = names.map((name) => [DEAD_LETTER_HEADERS[name], own[name] ?? ''] as const);
  const fields = [...Object.entries(headers), ...added].flatMap(([name, value]) => [`h:${name}`, value]);
  return ['msg', payload, ...fields];
}
