import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { importCycles, importGraph, layerOf, upwardImports } from '../support/import-graph.js';

const lib = fileURLToPath(new URL('../../lib', import.meta.url));

describe('layers of lib/', () => {
  const graph = importGraph(lib);

  it('import downwards only: nest, engine, redis, then what all may use', () => {
    expect(graph.get('engine/streamer.ts')).toContain('redis/connection/redis-connections.ts');
    expect(upwardImports(graph)).toEqual([]);
  });

  it('have no cycles, not even of types', () => {
    expect(importCycles(graph)).toEqual([]);
  });

  it('import files that exist', () => {
    expect([...graph.values()].flat().filter((file) => !graph.has(file))).toEqual([]);
  });

  it('only redis/ knows ioredis, and only nest/ and testing/ know Nest', () => {
    const importing = (pattern: RegExp): string[] =>
      [...graph.keys()].filter((file) => pattern.test(readFileSync(`${lib}/${file}`, 'utf8')));

    const layersOf = (files: string[]): string[] => [...new Set(files.map(layerOf))].sort();
    expect(layersOf(importing(/from 'ioredis'/))).toEqual(['redis']);
    expect(layersOf(importing(/from '@nestjs\//)).filter((layer) => layer !== 'nest' && layer !== 'testing')).toEqual(
      [],
    );
  });

  it('no file is over 500 lines', () => {
    const long = [...graph.keys()].filter((file) => readFileSync(`${lib}/${file}`, 'utf8').split('\n').length > 501);
    expect(long).toEqual([]);
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

  it('has a layer for every folder', () => {
    expect(() => layerOf('helpers/x.ts')).toThrow('no layer');
  });
});
