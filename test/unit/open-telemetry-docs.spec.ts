import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';
import { SpanKind } from '@opentelemetry/api';

import { ATTRIBUTES, EVENTS, METRICS, SPANS } from '../../lib/opentelemetry/conventions.js';

const text = readFileSync(fileURLToPath(new URL('../../docs/observability.md', import.meta.url)), 'utf8');

/** The rows of a marked table, each as its cells. */
function rowsOf(name: string): string[][] {
  const table = new RegExp(`<!-- names: ${name} -->\\n\\n((?:\\|.*\\n)+)`).exec(text)?.[1] ?? '';
  return table
    .trim()
    .split('\n')
    .slice(2)
    .map((row) => row.split('|').slice(1, -1).map((cell) => cell.trim())); // prettier-ignore
}

const namesIn = (cell = ''): string[] => [...cell.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name);

it.each([
  ['ATTRIBUTES', Object.values(ATTRIBUTES)],
  ['EVENTS', Object.values(EVENTS)],
  ['METRICS', Object.values(METRICS).map(({ name }) => name)],
  ['SPANS', Object.values(SPANS).map(({ operation }) => operation)],
])('docs/observability.md names all %s of the code, and no others', (table, names) => {
  expect(rowsOf(table).flatMap(([cell]) => namesIn(cell))).toEqual(names);
});

it('docs/observability.md has the unit of each metric and the kind of each span', () => {
  expect(rowsOf('METRICS').map(([, unit]) => unit)).toEqual(Object.values(METRICS).map(({ unit }) => `\`${unit}\``));
  expect(rowsOf('SPANS').map(([, , kind]) => kind)).toEqual(Object.values(SPANS).map(({ kind }) => SpanKind[kind]));
});
