import { InvalidOptionError } from '../errors.js';

/** One word, as NATS has it. */
const ANY_WORD = '*';
/** All words from here on, at least one. */
const REST = '>';

/** Whether the text means several streams, or is meant to. */
export function hasWildcard(text: string): boolean {
  return text.includes(ANY_WORD) || text.includes(REST);
}

/** The rule that a pattern with a wildcard breaks, if any. */
export function wildcardRule(text: string): string | undefined {
  const words = text.split('.');
  const isValid = words.every((word, index) => {
    return word === ANY_WORD || (word === REST ? index === words.length - 1 : word !== '' && !hasWildcard(word));
  });
  return isValid ? undefined : "must have '*' as a whole word between dots, and '>' as the last word, if it has them";
}

/**
 * A pattern of several streams, in the words of NATS: `orders.*` are all streams of one word after `orders.`, `orders.>` those
 * of one or more.
 */
export class Wildcard {
  readonly text: string;
  readonly #words: readonly string[];

  /** @param text that breaks no {@link wildcardRule} */
  constructor(text: string) {
    this.text = text;
    this.#words = text.split('.');
  }

  matches(streamKey: string): boolean {
    const words = streamKey.split('.');
    const isOpenEnded = this.#words.at(-1) === REST;
    if (isOpenEnded ? words.length < this.#words.length : words.length !== this.#words.length) return false;
    return this.#words.every((wanted, index) => {
      const word = words[index] as string;
      return word !== '' && (wanted === ANY_WORD || wanted === REST || wanted === word);
    });
  }

  /** Negative when this one is more specific: the first word that is not of the same kind decides. */
  compare(other: Wildcard): number {
    const length = Math.max(this.#words.length, other.#words.length);
    for (let index = 0; index < length; index += 1) {
      const difference = rankOf(this.#words[index]) - rankOf(other.#words[index]);
      if (difference !== 0) return difference;
    }
    return 0;
  }
}

/** Whether this is the text of a pattern that is an object, in which `*` and `>` mean themselves. */
export function isObjectRoute(route: string): boolean {
  return route.startsWith('{"');
}

/**
 * The wildcard that a pattern of a server with wildcards is. Another name of a wildcard is a wildcard too; the name of a single stream
 * is its key, whatever it contains.
 * @param streamKey the pattern, unless the option `streams` gives it another one
 * @throws InvalidOptionError
 */
export function wildcardOf(pattern: string, streamKey: string): Wildcard | undefined {
  if (isObjectRoute(pattern) || !hasWildcard(pattern)) return undefined;
  const rule = hasWildcard(streamKey) ? wildcardRule(streamKey) : "must have '*' or '>' as its pattern has";
  if (rule) throw new InvalidOptionError(`streams['${pattern}']`, rule, streamKey);
  return new Wildcard(streamKey);
}

function rankOf(word: string | undefined): number {
  if (word === REST) return 2;
  return word === ANY_WORD ? 1 : 0;
}
