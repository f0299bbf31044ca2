/**
 * JSON that keeps the text of its numbers: `JSON.parse` would change those that are longer than 53 bits, and a page must not show
 * another number than the message has.
 */
export type Json =
  | { readonly kind: 'object'; readonly members: ReadonlyArray<readonly [string, Json]> }
  | { readonly kind: 'array'; readonly items: readonly Json[] }
  | { readonly kind: 'string'; readonly text: string }
  /** Numbers, `true`, `false` and `null`, as they are written. */
  | { readonly kind: 'number' | 'word'; readonly text: string };

const TOKEN = /\s*(?:([[\]{},:])|("[^"\\]*(?:\\.[^"\\]*)*")|(-?\d[\d.eE+-]*)|(true|false|null)\b)\s*/y;
/** Levels of nesting; deeper JSON is shown as text. */
const DEPTH = 200;

/** Null when the text is not JSON. */
export function parseJson(text: string): Json | null {
  try {
    // Decides whether it is JSON; what follows may then be lenient.
    JSON.parse(text);
  } catch {
    return null;
  }
  return new Reader(text).read(0);
}

class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  /** Null beyond {@link DEPTH}. */
  read(depth: number): Json | null {
    const [, mark, string, number, word] = this.#next();
    if (string !== undefined) return { kind: 'string', text: JSON.parse(string) as string };
    if (number !== undefined) return { kind: 'number', text: number };
    if (word !== undefined) return { kind: 'word', text: word };
    if (depth > DEPTH) return null;
    return mark === '{' ? this.#object(depth) : this.#array(depth);
  }

  #object(depth: number): Json | null {
    const members: Array<readonly [string, Json]> = [];
    if (this.#skip('}')) return { kind: 'object', members };
    do {
      const [, , name] = this.#next();
      this.#next();
      const value = this.read(depth + 1);
      if (!value) return null;
      members.push([JSON.parse(name ?? '""') as string, value]);
    } while (this.#next()[1] === ',');
    return { kind: 'object', members };
  }

  #array(depth: number): Json | null {
    const items: Json[] = [];
    if (this.#skip(']')) return { kind: 'array', items };
    do {
      const item = this.read(depth + 1);
      if (!item) return null;
      items.push(item);
    } while (this.#next()[1] === ',');
    return { kind: 'array', items };
  }

  #next(): RegExpExecArray {
    TOKEN.lastIndex = this.#at;
    const token = TOKEN.exec(this.#text);
    if (!token) throw new Error(`no JSON at ${this.#at}`);
    this.#at = TOKEN.lastIndex;
    return token;
  }

  #skip(mark: string): boolean {
    const isThere = this.#text[this.#at] === mark;
    if (isThere) this.#next();
    return isThere;
  }
}
