import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitepress';

import { checkAnchors } from './anchors.js';
import { apiOf, contentsOf } from './contents.js';
import { writeLlmsFiles } from './llms.js';
import { mermaidFence } from './mermaid-fence.js';
import { repositoryLinks } from './repository-links.js';
import { slug } from './slug.js';

const docs = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '');
const repository = 'https://github.com/nestjs-redis-streams/nestjs-redis-streams';
/** The path under which the site is served, for example `/nestjs-redis-streams/`. */
const base = process.env['DOCS_BASE'] ?? '/';

/** The home page: the contents, below what a visitor should see first. */
const home = {
  layout: 'home',
  hero: {
    name: 'nestjs-redis-streams',
    text: 'Durable events for NestJS',
    tagline: 'A microservice transport on the Redis that you already run.',
    actions: [
      { theme: 'brand', text: 'First service', link: '/first-service' },
      { theme: 'alt', text: 'Guarantees', link: '/guarantees' },
      { theme: 'alt', text: 'API', link: '/api/' },
    ],
  },
  features: [
    { title: 'At least once', details: 'Redis stores each event. Another instance handles those of one that crashed.' },
    {
      title: "Nest's programming model",
      details: 'Controllers, pipes, guards, interceptors and filters work unchanged.',
    },
    { title: 'Retries and dead letters', details: 'A message that fails waits and does not stop the others.' },
    { title: 'Order by key', details: 'One owner of each shard at a time, through deployments and crashes.' },
    { title: 'Visible', details: 'OpenTelemetry, Prometheus, Terminus, KEDA, and a command-line tool.' },
    { title: 'An engine without Nest', details: 'Producers, consumers and a manager for scripts and workers.' },
  ],
};

export default defineConfig({
  title: 'nestjs-redis-streams',
  description: 'NestJS microservice transport over Redis Streams',
  base,
  head: [['link', { rel: 'icon', type: 'image/svg+xml', href: `${base}icon.svg` }]],
  outDir: '../.run/site',
  cacheDir: '../.run/site-cache',
  rewrites: { 'README.md': 'index.md' },
  markdown: {
    anchor: { slugify: slug },
    config(md) {
      md.use(repositoryLinks(docs));
      md.use(mermaidFence);
    },
  },
  themeConfig: {
    nav: [
      { text: 'Guide', link: '/first-service', activeMatch: '^/(?!api/)' },
      { text: 'API', link: '/api/', activeMatch: '^/api/' },
    ],
    sidebar: { '/api/': apiOf(docs), '/': contentsOf(docs) },
    outline: [2, 3],
    search: {
      provider: 'local',
      options: {
        // Guides before the reference, where both have the words.
        miniSearch: { searchOptions: { boostDocument: (id: string) => (id.includes('/api/') ? 0.3 : 1) } },
      },
    },
    socialLinks: [{ icon: 'github', link: repository }],
    editLink: { pattern: `${repository}/edit/main/docs/:path` },
  },
  transformPageData(page) {
    if (page.relativePath === 'index.md') return { frontmatter: { ...page.frontmatter, ...home } };
    if (page.relativePath.startsWith('api/')) return { frontmatter: { ...page.frontmatter, editLink: false } };
    return undefined;
  },
  buildEnd({ outDir }) {
    checkAnchors(outDir, base);
    writeLlmsFiles(docs, outDir, base);
  },
});
