import { HEADER_PREFIX } from '../../constants.js';

const [FIRST_OF_PREFIX, SECOND_OF_PREFIX] = Buffer.from(HEADER_PREFIX) as unknown as [number, number];

/** Where a header's value is among names and values in turn, and what the header is called. */
export type HeaderPlace = readonly [at: number, name: string];

/**
 * The names of an entry's fields, and where the payload and the headers are among them. Entries of one writer nearly always
 * have the same names and share one schema, so that the names are looked at once and not once for each entry.
 */
export class FieldSchema {
  readonly names: readonly Buffer[];
  #places: ReadonlyMap<string, number> | undefined;
  #headers: readonly HeaderPlace[] | undefined;
  #soughtLast: string | undefined;
  #foundLast = -1;

  constructor(names: readonly Buffer[]) {
    this.names = names;
  }

  /** @param fields names and values in turn */
  static of(fields: readonly Buffer[]): FieldSchema {
    return new FieldSchema(fields.filter((_, index) => index % 2 === 0));
  }

  /** Where the value of the first field of that name is among names and values in turn; -1 when there is none. */
  valueAt(name: string): number {
    if (this.#soughtLast !== name) {
      const length = Buffer.byteLength(name);
      const index = this.names.findIndex((each) => each.length === length && each.toString() === name);
      this.#foundLast = index === -1 ? -1 : 2 * index + 1;
      this.#soughtLast = name;
    }
    return this.#foundLast;
  }

  /** Where the value of a header is; undefined when there is none. Of two with that name the last counts. */
  headerAt(name: string): number | undefined {
    this.#places ??= new Map(this.headers.map(([at, header]) => [header, at]));
    return this.#places.get(name);
  }

  get headers(): readonly HeaderPlace[] {
    return (this.#headers ??= this.names.flatMap((name, index) => {
      const isHeader = name[0] === FIRST_OF_PREFIX && name[1] === SECOND_OF_PREFIX;
      return isHeader ? [[2 * index + 1, name.toString('utf8', HEADER_PREFIX.length)] as const] : [];
    }));
  }
}
