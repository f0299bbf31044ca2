import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { pagesOf } from './contents.js';
import { repositoryUrl } from './repository-links.js';

/**
 * Writes what language models read: `llms.txt`, the contents; each page as Markdown, beside its HTML; and `llms-full.txt`, all pages
 * in the order of the contents.
 */
export function writeLlmsFiles(docs: string, outDir: string, base: string): void {
  const pages = pagesOf(docs);
  const contents = readFileSync(join(docs, 'README.md'), 'utf8').split(/^## Pictures$/m)[0] ?? '';
  writeFileSync(join(outDir, 'llms.txt'), contents.replace(/\]\((\w[\w-]*\.md)/g, `](${base}$1`));
  for (const page of pages) copyFileSync(join(docs, page), join(outDir, page));
  const texts = pages.map((page) =>
    readFileSync(join(docs, page), 'utf8').replace(/\]\(([^)\s]+)/g, (link, href: string) => {
      const url = href.startsWith('.') ? repositoryUrl(docs, page, href) : undefined;
      return url === undefined ? link : `](${url}`;
    }),
  );
  writeFileSync(join(outDir, 'llms-full.txt'), texts.join('\n'));
}
