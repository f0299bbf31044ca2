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
import type { ImportGraph } from '../support/import-graph.js';

const lib = fileURLToPath(new URL('../../lib', import.meta.url));
const consolePackage = fileURLToPath(new URL('../../packages/console', import.meta.url));

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

/** The same in the console: a guard, and the log that the controllers share. */
const SMALL_IN_CONSOLE = ['security/change-log.ts', 'security/read-only.guard.ts'];

const read = (file: string, root = lib): string => readFileSync(`${root}/${file}`, 'utf8');
const lineCount = (file: string, root = lib): number => read(file, root).trimEnd().split('\n').length;

/** Files below {@link MIN_LINES} that one other file imports. */
function fragmentsOf(graph: ImportGraph, root: string): string[] {
  return [...graph.keys()].filter((file) => lineCount(file, root) < MIN_LINES && importersOf(graph, file).length === 1);
}

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
    const isByDesign = (file: string): boolean =>
      SMALL_BY_DESIGN.includes(file) || file.startsWith('redis/scripts/') || layerOf(file) === 'entry';
    expect(fragmentsOf(graph, lib).filter((file) => !isByDesign(file))).toEqual([]);
  });
});

describe('packages/console/', () => {
  const [server, pages] = [`${consolePackage}/src`, `${consolePackage}/web`];
  const graphs = new Map([server, pages].map((root) => [root, importGraph(root)]));
  const [ofServer, ofPages] = [graphs.get(server) as ImportGraph, graphs.get(pages) as ImportGraph];
  const folderOf = (file: string): string => file.slice(0, file.indexOf('/') + 1);

  it('has no cycles of imports, not even of types', () => {
    expect([...graphs.values()].flatMap(importCycles)).toEqual([]);
  });

  it('has pages that know of the server its API only, which imports nothing', () => {
    const outside = [...ofPages.values()].flat().filter((file) => file.startsWith('../'));
    expect([...new Set(outside)]).toEqual(['../src/api.ts']);
    expect(ofServer.get('api.ts')).toEqual([]);
    expect(packageImports(server).get('api.ts')).toEqual([]);
  });

  it('imports downwards only in its pages: shell, pages, ui, data', () => {
    const order = ['data/', 'ui/', 'pages/', 'shell/'];
    const upward = [...ofPages].flatMap(([from, imports]) =>
      imports
        .filter((to) => folderOf(from) !== '' && order.indexOf(folderOf(to)) > order.indexOf(folderOf(from)))
        .map((to) => `${from} -> ${to}`),
    );
    expect(ofPages.get('shell/app.tsx')).toContain('pages/stream.tsx');
    expect(upward).toEqual([]);
  });

  it('has parts of the server that do not know each other, beside messages/ and security/', () => {
    const shared = ['', 'messages/', 'security/'];
    const crossed = [...ofServer].flatMap(([from, imports]) =>
      imports
        .filter((to) => folderOf(from) !== '' && folderOf(to) !== folderOf(from) && !shared.includes(folderOf(to)))
        .map((to) => `${from} -> ${to}`),
    );
    // The folder of the built pages and the version are named by a file of the package.
    const packageFiles = '../package-files.cjs';
    expect(crossed.toSorted()).toEqual([
      `live/live.controller.ts -> ${packageFiles}`,
      `pages/pages.controller.ts -> ${packageFiles}`,
    ]);
  });

  it(`has no file over ${MAX_LINES} lines, and none under ${MIN_LINES} that one other file imports`, () => {
    const files = [...graphs].flatMap(([root, graph]) => [...graph.keys()].map((file) => ({ root, file })));
    expect(files.filter(({ root, file }) => lineCount(file, root) > MAX_LINES)).toEqual([]);
    const fragments = [...graphs].flatMap(([root, graph]) => fragmentsOf(graph, root));
    expect(fragments.sort()).toEqual(SMALL_IN_CONSOLE);
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
