import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from '@jest/globals';

import { checkAnchors } from '../../docs/.vitepress/anchors.js';
import { contentsOf, pagesOf } from '../../docs/.vitepress/contents.js';
import { repositoryUrl } from '../../docs/.vitepress/repository-links.js';
import { slug } from '../../docs/.vitepress/slug.js';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

/** A folder with these files. */
function folderOf(files: Readonly<Record<string, string>>): string {
  const folder = mkdtempSync(join(tmpdir(), 'site-'));
  folders.push(folder);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), content);
  }
  return folder;
}

describe('the build of the site', () => {
  const contents = '# Contents\n\n## Start\n\n- [First](first.md): what comes first.\n- [Next](next.md): the rest.\n';

  it('makes the sidebar of the contents', () => {
    const docs = folderOf({ 'README.md': contents, 'first.md': '', 'next.md': '' });
    expect(contentsOf(docs)).toEqual([
      {
        text: 'Start',
        items: [
          { text: 'First', link: '/first' },
          { text: 'Next', link: '/next' },
        ],
      },
    ]);
    expect(pagesOf(docs)).toEqual(['first.md', 'next.md']);
  });

  it('fails when the contents lack a page', () => {
    const docs = folderOf({ 'README.md': contents, 'first.md': '', 'next.md': '', 'lost.md': '' });
    expect(() => contentsOf(docs)).toThrow('lost.md');
  });

  it('fails when a link leads to an anchor that its page lacks', () => {
    const good = '<h2 id="top">Top</h2><a href="#top">x</a><a class="y" href="/base/b/#part">x</a>';
    const out = folderOf({ 'a.html': good, 'b/index.html': '<p id="part"></p><a href="../a.html#top">x</a>' });
    expect(() => checkAnchors(out, '/base/')).not.toThrow();

    writeFileSync(join(out, 'c.html'), '<a href="/base/a.html#bottom">x</a>');
    expect(() => checkAnchors(out, '/base/')).toThrow('c.html: /base/a.html#bottom');
  });

  it('leads from a page to files of the repository on GitHub, and fails when there is no such file', () => {
    const docs = join(
      folderOf({ 'docs/page.md': '', 'docs/data.json': '', 'test/a.spec.ts': '', 'SECURITY.md': '' }),
      'docs',
    );
    const main = 'https://github.com/nestjs-redis-streams/nestjs-redis-streams';
    expect(repositoryUrl(docs, 'page.md', '../test/a.spec.ts')).toBe(`${main}/blob/main/test/a.spec.ts`);
    expect(repositoryUrl(docs, 'page.md', '../test')).toBe(`${main}/tree/main/test`);
    expect(repositoryUrl(docs, 'page.md', '../SECURITY.md#tls')).toBe(`${main}/blob/main/SECURITY.md#tls`);
    expect(repositoryUrl(docs, 'page.md', 'data.json')).toBe(`${main}/blob/main/docs/data.json`);
    expect(() => repositoryUrl(docs, 'page.md', '../gone.ts')).toThrow('page.md links to ../gone.ts');
  });

  it('leaves links to pages, sections and other sites as they are', () => {
    for (const href of ['page.md', 'page.md#part', '#part', 'https://nestjs.com', '/api/', 'mailto:a@b.c']) {
      expect(repositoryUrl('/docs', 'page.md', href)).toBeUndefined();
    }
  });

  it('gives a heading the anchor that GitHub gives it', () => {
    expect(slug("What Nest's own `emit()` does, and when")).toBe('what-nests-own-emit-does-and-when');
    expect(slug('A_b – c')).toBe('a_b--c');
  });
});
