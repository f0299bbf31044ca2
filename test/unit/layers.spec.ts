import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import {
  crossedBorders,
  importCycles,
  importGraph,
  importersOf,
  layerOf,
  packageImports,
  reachableFrom,
  upwardImports,
} from '../support/import-graph.js';

const lib = fileURLToPath(new URL('../../lib', import.meta.url));

const MAX_LINES = 500;
/** A file below this with one importer is a fragment of that importer. */
const MIN_LINES = 40;

/**
 * Small files with one importer that are an idea of their own, beside Lua scripts and entry points: a facet of the commands,
 * and the place that puts the facets together, for the engine and for the tests of commands.
 */
const SMALL_BY_DESIGN = [
  'redis/commands/answers.ts',
  'redis/commands/inbox.ts',
  'redis/commands/redis-stream-commands.ts',
];

const read = (file: string): string => readFileSync(`${lib}/${file}`, 'utf8');
const lineCount = (file: string): number => read(file).trimEnd().split('\n').length;

describe('lib/', () => {
  const graph = importGraph(lib);
  const packages = packageImports(lib);
  const files = [...graph.keys()];
  const importing = (pattern: RegExp): string[] =>
    files.filter((file) => packages.get(file)?.some((name) => pattern.test(name)));

  it('imports downwards only: nest, engine, redis, shared', () => {
    expect(graph.get('engine/streamer.ts')).toContain('redis/connection/redis-connections.ts');
    expect(upwardImports(graph)).toEqual([]);
  });

  it('has no cycles of imports, not even of types', () => {
    expect(importCycles(graph)).toEqual([]);
  });

  it('imports files that exist', () => {
    expect([...graph.values()].flat().filter((file) => !graph.has(file))).toEqual([]);
  });

  it('keeps producing and consuming apart, and messages and options away from both', () => {
    expect(files.filter((file) => file.startsWith('engine/producing/'))).not.toEqual([]);
    expect(crossedBorders(graph)).toEqual([]);
  });

  it('imports ioredis in redis/connection/ only', () => {
    const found = importing(/^ioredis$/);
    expect(found).toContain('redis/connection/client-factory.ts');
    expect(found.filter((file) => !file.startsWith('redis/connection/'))).toEqual([]);
  });

  it('loads ioredis in one file, of which the build makes what instrumentation and bundlers need', () => {
    const loads = /^(?:import (?!type\b)|export ).* from 'ioredis'/m;
    expect(files.filter((file) => loads.test(read(file)))).toEqual(['redis/connection/ioredis.ts']);
  });

  it('touches bytes in redis/wire/ only, and those of files in file/', () => {
    // Line ends of RESP, and methods that only code that cuts buffers into pieces or fills them piece by piece needs.
    const handlesBytes = /\\r|\b0x0d\b|\bsubarray\(|\b(?:utf8|latin1)Write\(|\b(?:read|write)U?Int\d/i;
    const found = files.filter((file) => handlesBytes.test(read(file)));
    expect(found).not.toEqual([]);
    expect(found.filter((file) => !/^(?:redis\/wire|file)\//.test(file))).toEqual([]);
  });

  it('imports Nest and rxjs in nest/ and testing/ only', () => {
    const found = importing(/^(?:@nestjs\/.*|rxjs|reflect-metadata)$/);
    expect([...new Set(found.map(layerOf))].sort()).toEqual(['nest', 'testing']);
  });

  it('imports prom-client in prometheus/ only, which only its entry point reaches', () => {
    const found = importing(/^prom-client$/);
    expect([...new Set(found.map(layerOf))]).toEqual(['prometheus']);
    for (const entry of ['index.ts', 'engine.ts', 'testing.ts'])
      expect(reachableFrom(graph, entry).filter((file) => layerOf(file) === 'prometheus')).toEqual([]);
    const reached = reachableFrom(graph, 'prometheus.ts');
    expect(reached.filter((file) => ['nest', 'testing'].includes(layerOf(file)))).toEqual([]);
  });

  it('reaches neither Nest nor rxjs from the entry point of the engine', () => {
    const reached = reachableFrom(graph, 'engine.ts');
    const used = [...new Set(reached.flatMap((file) => packages.get(file) ?? []))];
    expect(reached).toContain('engine/streamer.ts');
    expect(reached.filter((file) => ['nest', 'testing'].includes(layerOf(file)))).toEqual([]);
    expect(used.filter((name) => !name.startsWith('node:'))).toEqual(['ioredis']);
  });

  it('imports OpenTelemetry in opentelemetry/ only, which no other entry point reaches and which knows no Nest', () => {
    const found = importing(/^@opentelemetry\//);
    expect(found).toContain('opentelemetry/open-telemetry.ts');
    expect([...new Set(found.map(layerOf))]).toEqual(['opentelemetry']);
    const others = files.filter((file) => layerOf(file) === 'entry' && file !== 'opentelemetry.ts');
    const reached = others.flatMap((file) => reachableFrom(graph, file)).map(layerOf);
    expect(reached).not.toContain('opentelemetry');
    expect(reachableFrom(graph, 'opentelemetry.ts').map(layerOf)).not.toContain('nest');
  });

  it(`has no file over ${MAX_LINES} lines`, () => {
    expect(files.filter((file) => lineCount(file) > MAX_LINES)).toEqual([]);
  });

  it(`has no file under ${MIN_LINES} lines that one other file imports`, () => {
    const isFragment = (file: string): boolean =>
      lineCount(file) < MIN_LINES &&
      importersOf(graph, file).length === 1 &&
      !file.startsWith('redis/scripts/') &&
      layerOf(file) !== 'entry';
    expect(files.filter((file) => isFragment(file) && !SMALL_BY_DESIGN.includes(file))).toEqual([]);
  });
});

describe('the check of layers', () => {
  it('sees an import that goes upwards', () => {
    const graph = new Map([
      ['errors.ts', ['redis/entry-id.ts']],
      ['redis/entry-id.ts', ['errors.ts']],
      ['redis/commands.ts', ['engine/options.ts', 'errors.ts']],
      ['engine/options.ts', ['redis/entry-id.ts', 'nest/server.ts']],
      ['nest/server.ts', ['engine/options.ts', 'index.ts']],
      ['index.ts', ['nest/server.ts']],
    ]);
    expect(upwardImports(graph)).toEqual([
      'errors.ts -> redis/entry-id.ts',
      'redis/commands.ts -> engine/options.ts',
      'engine/options.ts -> nest/server.ts',
      'nest/server.ts -> index.ts',
    ]);
  });

  it('sees an import across a border inside a layer', () => {
    const graph = new Map([
      ['engine/producing/a.ts', ['engine/consuming/b.ts', 'engine/messages/c.ts']],
      ['engine/consuming/b.ts', ['engine/options/d.ts', 'engine/producing/a.ts']],
      ['engine/messages/c.ts', ['engine/producing/a.ts']],
      ['engine/options/d.ts', ['engine/consuming/reading/e.ts']],
      ['engine/streamer.ts', ['engine/producing/a.ts', 'engine/consuming/b.ts']],
    ]);
    expect(crossedBorders(graph)).toEqual([
      'engine/producing/a.ts -> engine/consuming/b.ts',
      'engine/consuming/b.ts -> engine/producing/a.ts',
      'engine/messages/c.ts -> engine/producing/a.ts',
      'engine/options/d.ts -> engine/consuming/reading/e.ts',
    ]);
    expect(upwardImports(graph)).toEqual([]);
  });

  it('sees a cycle inside a layer', () => {
    const graph = new Map([
      ['engine/a.ts', ['engine/b.ts']],
      ['engine/b.ts', ['engine/c.ts', 'errors.ts']],
      ['engine/c.ts', ['engine/a.ts']],
      ['engine/d.ts', ['engine/a.ts', 'engine/d.ts']],
      ['errors.ts', []],
    ]);
    expect(importCycles(graph)).toEqual([
      'engine/a.ts -> engine/b.ts -> engine/c.ts -> engine/a.ts',
      'engine/d.ts -> engine/d.ts',
    ]);
    expect(upwardImports(graph)).toEqual([]);
  });

  it('follows imports through other files, and back to who imports a file', () => {
    const graph = new Map([
      ['engine.ts', ['engine/a.ts']],
      ['engine/a.ts', ['redis/b.ts', 'engine/a.ts']],
      ['redis/b.ts', []],
      ['nest/c.ts', ['redis/b.ts']],
    ]);
    expect(reachableFrom(graph, 'engine.ts')).toEqual(['engine.ts', 'engine/a.ts', 'redis/b.ts']);
    expect(importersOf(graph, 'redis/b.ts')).toEqual(['engine/a.ts', 'nest/c.ts']);
  });

  it('has a layer for every folder', () => {
    expect(() => layerOf('helpers/x.ts')).toThrow('no layer');
  });
});
