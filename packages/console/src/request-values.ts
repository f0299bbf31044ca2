import { BadRequestException } from '@nestjs/common';
import { entryId } from 'nestjs-redis-streams';

const LONGEST_TEXT = 10_000;
const MOST_IDS = 1_000;

/**
 * The values of a request: those of its query, or the properties of its body. What is missing is undefined; what is of another type
 * than it must be is refused.
 */
export class RequestValues {
  readonly #values: Readonly<Record<string, unknown>>;

  /** @throws BadRequestException */
  constructor(values: unknown) {
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      throw new BadRequestException('The request must have an object of JSON');
    }
    this.#values = values as Record<string, unknown>;
  }

  /** Undefined also when it is empty, as fields of a form are. @throws BadRequestException */
  text(name: string): string | undefined {
    const value = this.#value(name);
    if (value === undefined || value === '') return undefined;
    if (typeof value !== 'string' || value.length > LONGEST_TEXT)
      throw refusal(name, 'must be a text, given once', value);
    return value;
  }

  /** @throws BadRequestException */
  requiredText(name: string): string {
    const value = this.text(name);
    if (value === undefined) throw refusal(name, 'must be given', value);
    return value;
  }

  /** In a query `true` or `false`. @throws BadRequestException */
  flag(name: string): boolean | undefined {
    const value = this.#value(name);
    if (value === undefined || value === '') return undefined;
    if (value === true || value === 'true' || value === '1') return true;
    if (value === false || value === 'false' || value === '0') return false;
    throw refusal(name, 'must be true or false', value);
  }

  /** @throws BadRequestException */
  requiredFlag(name: string): boolean {
    const value = this.flag(name);
    if (value === undefined) throw refusal(name, 'must be true or false', value);
    return value;
  }

  /** A whole number from 0; in a query its digits. @throws BadRequestException */
  count(name: string): number | undefined {
    const given = this.#value(name);
    const value = typeof given === 'string' && /^\d{1,16}$/.test(given) ? Number(given) : given;
    if (value === undefined || value === '') return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw refusal(name, 'must be a whole number of at least 0', value);
  }

  /** @throws BadRequestException */
  texts(name: string): readonly string[] | undefined {
    const value = this.#value(name);
    if (value === undefined) return undefined;
    const isList = Array.isArray(value) && value.length > 0 && value.length <= MOST_IDS;
    if (isList && value.every((each) => typeof each === 'string')) return value as string[];
    throw refusal(name, `must be a list of 1 to ${MOST_IDS} texts`, value);
  }

  /** As it was given. */
  raw(name: string): unknown {
    return this.#value(name);
  }

  #value(name: string): unknown {
    return Object.hasOwn(this.#values, name) ? this.#values[name] : undefined;
  }
}

/** Whether a text is the whole id of an entry, `ms-seq`. */
export function isId(text: string): boolean {
  return /^\d+-\d+$/.test(text) && entryId.isValid(text);
}

/** The value is shortened: it may be long, and comes back to the page that sent it. */
export function refusal(name: string, rule: string, value: unknown): BadRequestException {
  const got = value === undefined ? '' : `; got ${JSON.stringify(value).slice(0, 100)}`;
  return new BadRequestException(`'${name}' ${rule}${got}`);
}
