import { existsSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { MarkdownEnv, MarkdownRenderer } from 'vitepress';

const REPOSITORY = 'https://github.com/nestjs-redis-streams/nestjs-redis-streams';

/**
 * The address on GitHub of what a page links to, if that is a file or a folder of the repository but no page of the site; it must
 * exist. On GitHub the relative link of the page leads there itself.
 * @param page path relative to the folder of the pages
 */
export function repositoryUrl(docs: string, page: string, href: string): string | undefined {
  if (/^(?:[a-z]+:|#|\/)/.test(href)) return undefined;
  const [path = '', anchor] = href.split('#');
  const file = join(docs, dirname(page), path);
  if (!relative(docs, file).startsWith('..') && path.endsWith('.md')) return undefined;
  if (!existsSync(file)) throw new Error(`${page} links to ${href}, which does not exist`);
  const kind = statSync(file).isDirectory() ? 'tree' : 'blob';
  const target = relative(dirname(docs), file);
  return `${REPOSITORY}/${kind}/main/${target}${anchor === undefined ? '' : `#${anchor}`}`;
}

/** Makes the links of pages to files of the repository absolute, before VitePress takes them for pages. */
export function repositoryLinks(docs: string): (md: MarkdownRenderer) => void {
  return (md) => {
    md.core.ruler.push('repository-links', ({ tokens, env }) => {
      const page = (env as MarkdownEnv).relativePath.replace(/^index\.md$/, 'README.md');
      for (const token of tokens.flatMap(({ children }) => children ?? [])) {
        const href = token.type === 'link_open' ? token.attrGet('href') : null;
        const url = href === null ? undefined : repositoryUrl(docs, page, href);
        if (url !== undefined) token.attrSet('href', url);
      }
    });
  };
}
