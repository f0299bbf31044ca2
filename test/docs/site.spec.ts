import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { TestBrowser } from '../support/browser.js';
import type { TestPage } from '../support/browser.js';
import { StaticSite } from '../support/static-site.js';

jest.setTimeout(120_000);

/** What `npm run docs` writes. */
const SITE = fileURLToPath(new URL('../../.run/site', import.meta.url));

let site: StaticSite;
let browser: TestBrowser;

beforeAll(async () => {
  if (!existsSync(`${SITE}/llms.txt`)) throw new Error(`no site in ${SITE}; run: npm run docs`);
  [site, browser] = await Promise.all([StaticSite.start(SITE), TestBrowser.launch()]);
});
afterEach(() => browser.closePages());
afterAll(async () => {
  await browser[Symbol.asyncDispose]();
  await site[Symbol.asyncDispose]();
});

const heading = ({ page }: TestPage, name: string): Promise<void> =>
  page.getByRole('heading', { level: 1, name }).waitFor();

/** Addresses outside of the site from which the page has loaded something. */
async function strangers({ page }: TestPage): Promise<string[]> {
  const loaded = await page.evaluate<string[]>(`performance.getEntriesByType('resource').map(({ name }) => name)`);
  expect(loaded.length).toBeGreaterThan(0);
  return loaded.filter((url) => !url.startsWith(site.url) && !url.startsWith('data:'));
}

async function expectNoTrouble(opened: TestPage): Promise<void> {
  expect(opened.problems).toEqual([]);
  expect(await strangers(opened)).toEqual([]);
}

describe('the site of the documentation', () => {
  it('leads from the home page through the sidebar to the reference of a symbol', async () => {
    const opened = await browser.open(site.url);
    await opened.sees('Durable events for NestJS');
    await opened.click('link', 'First service');
    await heading(opened, 'First service in ten minutes');

    await opened.page.locator('.VPSidebar').getByRole('link', { name: 'Retry and dead letters' }).click();
    await heading(opened, 'Retry and dead letters');

    await opened.page.locator('.VPNavBar').getByRole('link', { name: 'API' }).click();
    await heading(opened, 'nestjs-redis-streams');
    await opened.page.locator('.VPContent').getByRole('link', { name: 'testing' }).click();
    await opened.page.locator('.VPContent').getByRole('link', { name: 'TestServerRedisStreams' }).click();
    await heading(opened, 'Class: TestServerRedisStreams');
    await expectNoTrouble(opened);
  });

  it('finds a word in its own index, the guide before the reference', async () => {
    const opened = await browser.open(site.url);
    await opened.page.locator('.VPNavBarSearch button').first().click();
    await opened.page.getByRole('searchbox').fill('dead letter');
    const results = opened.page.locator('.VPLocalSearchBox .result');
    await results.first().waitFor();
    expect(await results.first().getAttribute('href')).not.toContain('/api/');

    await results.first().click();
    await opened.page.waitForURL(/\.html/);
    await opened.page
      .locator('.vp-doc')
      .getByText(/dead letter/i)
      .first()
      .waitFor();
    await expectNoTrouble(opened);
  });

  it.each(['light', 'dark'] as const)('draws the diagrams of a page in %s colours', async (theme) => {
    const opened = await browser.open(`${site.url}architecture.html`, { theme });
    await opened.page.locator('.mermaid svg').nth(3).waitFor();
    await opened.page.locator('.mermaid-source').first().waitFor({ state: 'detached' });
    await expectNoTrouble(opened);
  });

  it('has the charts of the benchmarks, and pages without serious barriers', async () => {
    const opened = await browser.open(`${site.url}benchmarks.html`);
    const isDrawn = `[...document.querySelectorAll('.vp-doc img')].every((image) => image.complete && image.naturalWidth > 0)`;
    await opened.page.waitForFunction(`document.querySelector('.vp-doc img') && ${isDrawn}`);
    // The label of the button that opens the search is VitePress's own.
    expect((await opened.barriers()).filter((barrier) => !barrier.includes('DocSearch-Button'))).toEqual([]);
    await expectNoTrouble(opened);
  });

  it('fits a narrow window', async () => {
    const opened = await browser.open(`${site.url}retry-and-dead-letter.html`, { width: 360 });
    await heading(opened, 'Retry and dead letters');
    expect(await opened.overflow()).toBeLessThanOrEqual(0);
  });

  it('lists its pages in llms.txt, each of which exists as Markdown', async () => {
    const text = await (await fetch(`${site.url}llms.txt`)).text();
    const pages = Array.from(text.matchAll(/\]\(\/(\S+\.md)\)/g), ([, page]) => page);
    expect(pages).toContain('guarantees.md');
    for (const page of pages) expect((await fetch(`${site.url}${page}`)).status).toBe(200);

    const everything = await (await fetch(`${site.url}llms-full.txt`)).text();
    expect(everything).toMatch(/^# Guarantees$/m);
    expect(everything).not.toMatch(/\]\(\.\.\//);
  });
});
