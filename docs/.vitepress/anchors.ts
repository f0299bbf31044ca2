import { readFileSync, readdirSync } from 'node:fs';
import { join, posix } from 'node:path';

const LINK = /<a [^>]*?href="([^"#]*)#([^"]+)"/g;

/** Fails if a link of a built page leads to an anchor that its page does not have; VitePress checks the pages of links only. */
export function checkAnchors(outDir: string, base: string): void {
  const files = readdirSync(outDir, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.html'));
  const pages = new Map(files.map((name) => [name, readFileSync(join(outDir, name), 'utf8')]));
  const anchors = new Map(Array.from(pages, ([name, html]) => [name, anchorsOf(html)]));
  const dead = Array.from(pages).flatMap(([name, html]) =>
    Array.from(html.matchAll(LINK), ([, path = '', anchor = '']) => ({ path, anchor }))
      .filter(({ path }) => !/^[a-z]+:/.test(path))
      .filter(({ path, anchor }) => !anchors.get(fileOf(name, path, base))?.has(decodeURIComponent(anchor)))
      .map(({ path, anchor }) => `${name}: ${path}#${anchor}`),
  );
  if (dead.length > 0) throw new Error(`Links to anchors that do not exist:\n${[...new Set(dead)].join('\n')}`);
}

function anchorsOf(html: string): Set<string> {
  return new Set(Array.from(html.matchAll(/ id="([^"]+)"/g), ([, id = '']) => id));
}

/** The file of a link on a page. */
function fileOf(page: string, path: string, base: string): string {
  if (path === '') return page;
  const file = path.startsWith('/') ? path.slice(base.length) : posix.join(posix.dirname(page), path);
  return file === '' || file.endsWith('/') ? `${file}index.html` : file;
}
