import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { InvalidOptionError, RedisStreamsError } from '../../lib/errors.js';

const read = (path: string): string => readFileSync(fileURLToPath(new URL(`../../${path}`, import.meta.url)), 'utf8');

const SOURCE = ['lib/shared/errors.ts', 'lib/errors.ts', 'lib/shared/consumer-errors.ts'].map(read).join('');

interface Row {
  readonly name: string;
  readonly code: string;
  readonly retryable: string;
}

/** Each class of an error, by what it hands to its base class. */
function classesInSource(): Row[] {
  const classes = SOURCE.split(/^export class /m).slice(1);
  return classes.flatMap((source) => {
    const name = /^\w+/.exec(source)?.[0] as string;
    const code = /super\(\s*'(ERR_\w+)'/.exec(source)?.[1];
    if (code === undefined) return [];
    const isVariable = /\bretryable(: boolean| = (?:true|false))[,)]/.test(source);
    return [{ name, code, retryable: isVariable ? 'depends' : source.includes('retryable: true') ? 'yes' : 'no' }];
  });
}

function rowsInDocument(): Row[] {
  const rows = read('docs/errors.md').matchAll(/^\| `(\w+)` +\| `(\w+)` +\| (\w+) +\| \S.* \| \S.* \|$/gm);
  return [...rows].map(([, name, code, retryable]) => ({ name, code, retryable }) as Row);
}

describe('errors', () => {
  it('are all in docs/errors.md, in the same order, with their codes', () => {
    expect(classesInSource().length).toBeGreaterThan(20);
    expect(rowsInDocument()).toEqual(classesInSource());
  });

  it('have a code each, and no two the same', () => {
    const codes = classesInSource().map(({ code }) => code);
    expect(new Set(codes).size).toBe(codes.length);
  });

  it('have their class as their name, keep their cause, and are not retryable unless they say so', () => {
    const cause = new Error('underneath');
    class OwnError extends RedisStreamsError {}
    const error = new OwnError('ERR_OWN', 'text', { cause });
    expect(error).toMatchObject({ name: 'OwnError', code: 'ERR_OWN', message: 'text', cause, retryable: false });
    expect('cause' in new OwnError('ERR_OWN', 'text')).toBe(false);
  });

  it('have their names written out, so that a bundler that minifies does not change them', () => {
    const written = [
      ...SOURCE.matchAll(
        /^export class (\w+) extends RedisStreamsError \{\n  override readonly name: string = '(\w+)';$/gm,
      ),
    ];
    expect(written.map(([, , name]) => name)).toEqual(classesInSource().map(({ name }) => name));
    expect(written.map(([, name]) => name)).toEqual(classesInSource().map(({ name }) => name));
  });

  it.each([
    ['text', '"text"'],
    [5n, '5n'],
    [new Date(Number.NaN), 'an invalid Date'],
    [new Date(0), '1970-01-01T00:00:00.000Z'],
    [() => 1, 'a function'],
    [[], 'an empty array'],
    [[1, 2], 'an array of 2'],
    [{ a: 1, password: 'x' }, 'an object with a, password'],
    [{}, 'an object with no keys'],
    [null, 'null'],
    [undefined, 'undefined'],
    [Number.NaN, 'NaN'],
  ])('name the value %p that was refused, without telling what objects hold', (value, text) => {
    expect(new InvalidOptionError('option', 'must be right', value).message).toBe(`option must be right; got ${text}`);
  });

  it.each([
    ['nested', JSON.parse(`${'['.repeat(3_000)}${']'.repeat(3_000)}`)],
    ['in itself', (() => { const list: unknown[] = []; return (list[0] = list); })()], // prettier-ignore
  ])('hold no list that is %s, and do not follow it', (_, value: unknown) => {
    const deep = Array.from({ length: 200_000 }).reduce((inner) => [inner], value);
    expect(new InvalidOptionError('option', 'must be right', deep).value).toBeUndefined();
    expect(new InvalidOptionError('option', 'must be right', [1, 'a']).value).toEqual([1, 'a']);
  });
});
