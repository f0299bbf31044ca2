import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { expect, it } from '@jest/globals';

const CONSOLE = fileURLToPath(new URL('../../packages/console/', import.meta.url));
/** Bytes, compressed, of all files that a browser loads. */
const LIMIT = 80_000;

const built = readdirSync(`${CONSOLE}dist/web`).map(
  (name) => [name, readFileSync(`${CONSOLE}dist/web/${name}`)] as const,
);
const index = built.find(([name]) => name === 'index.html')?.[1].toString() ?? '';

it('the pages have less than 80 kB, compressed', () => {
  const total = built.reduce((sum, [, content]) => sum + gzipSync(content).length, 0);
  expect(total).toBeGreaterThan(0);
  expect(total).toBeLessThan(LIMIT);
});

it('all files beside the index have a hash in their name, and the index names them by relative paths', () => {
  const names = built.map(([name]) => name).filter((name) => name !== 'index.html');
  for (const name of names) expect(name).toMatch(/^\w+-[A-Z0-9]{8}\.(js|css|svg)$/);
  const named = [...index.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, path]) => path);
  expect(new Set(named)).toEqual(new Set(names.map((name) => `assets/${name}`)));
});

it('nothing in the index is a script or a style that the Content-Security-Policy refuses', () => {
  expect(index).not.toMatch(/<style|style=|<script(?![^>]* src=)|\son\w+=|javascript:/i);
});

it('the licences of the libraries in the bundle are shipped with it', () => {
  const licences = readFileSync(`${CONSOLE}dist/licences-of-web.txt`, 'utf8');
  for (const name of ['preact', 'uplot']) expect(licences).toMatch(new RegExp(`^${name}$`, 'm'));
  expect(licences.match(/Permission is hereby granted/g)).toHaveLength(2);
});

it('no page sets HTML from a text, or runs one as a script', () => {
  const sources = readdirSync(`${CONSOLE}web`, { recursive: true, encoding: 'utf8' }).filter((name) =>
    /\.tsx?$/.test(name),
  );
  expect(sources.length).toBeGreaterThan(20);
  for (const name of sources) {
    const text = readFileSync(`${CONSOLE}web/${name}`, 'utf8');
    const found = /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc/i.exec(text);
    expect([name, found?.[0]]).toEqual([name, undefined]);
  }
});
