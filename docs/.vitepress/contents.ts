import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { DefaultTheme } from 'vitepress';

type Item = DefaultTheme.SidebarItem;

/** The list of the pages, on GitHub and on the site; the order of its sections and links is that of the sidebar. */
const CONTENTS = 'README.md';
/** Where typedoc writes the reference. */
const API = 'api';

/** The sidebar of the pages. A page that the contents do not list, or a page that is listed and missing, fails the build. */
export function contentsOf(docs: string): Item[] {
  const text = readFileSync(join(docs, CONTENTS), 'utf8');
  const sections = text.split(/^## /m).slice(1);
  const groups = sections.map((section): Item => {
    const items = Array.from(section.matchAll(/^- \[(.+?)\]\((.+?)\.md\)/gm), ([, title, name]) => ({
      text: title as string,
      link: `/${name}`,
    }));
    return { text: section.slice(0, section.indexOf('\n')), items };
  });
  const listed = groups.flatMap(({ items = [] }) => items.map(({ link }) => `${link?.slice(1)}.md`));
  const present = readdirSync(docs).filter((name) => name.endsWith('.md') && name !== CONTENTS);
  const missing = present.filter((name) => !listed.includes(name));
  if (missing.length > 0) throw new Error(`${CONTENTS} does not list ${missing.join(', ')}`);
  return groups.filter(({ items = [] }) => items.length > 0);
}

/** The pages in the order of the contents, as file names. */
export function pagesOf(docs: string): string[] {
  return contentsOf(docs).flatMap(({ items = [] }) => items.map(({ link }) => `${link?.slice(1)}.md`));
}

/** The sidebar of the reference: entry points, kinds of symbols, symbols. */
export function apiOf(docs: string): Item[] {
  const root = join(docs, API);
  if (!existsSync(root)) throw new Error(`There is no reference in ${root}; run: npx typedoc`);
  return foldersIn(root).map((entry) => ({
    text: entry === 'index' ? 'nestjs-redis-streams' : `…/${entry}`,
    link: `/${API}/${entry}/`,
    collapsed: true,
    items: foldersIn(join(root, entry)).map((kind) => ({
      text: titleOf(kind),
      collapsed: true,
      items: readdirSync(join(root, entry, kind)).map((file) => {
        const name = file.replace(/\.md$/, '');
        return { text: name, link: `/${API}/${entry}/${kind}/${name}` };
      }),
    })),
  }));
}

/** In the order of their names, but the main entry point first. */
function foldersIn(path: string): string[] {
  const folders = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  return folders
    .map(({ name }) => name)
    .sort((a, b) => Number(b === 'index') - Number(a === 'index') || (a < b ? -1 : 1));
}

/** `type-aliases` is `Type aliases`. */
function titleOf(kind: string): string {
  return `${kind.charAt(0).toUpperCase()}${kind.slice(1).replace('-', ' ')}`;
}
