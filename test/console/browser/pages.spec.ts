import { afterAll, afterEach, beforeAll, expect, it, jest } from '@jest/globals';

import { MAKES_PICTURES, TestBrowser } from '../../support/browser.js';
import type { TestPage } from '../../support/browser.js';
import { ConsoleShop, SHOP } from '../../support/console-shop.js';
import { until } from '../../support/until.js';

jest.setTimeout(120_000);
jest.spyOn(console, 'log').mockImplementation(() => undefined);

const PHONE = 360;

let shop: ConsoleShop;
let browser: TestBrowser;
let traffic: NodeJS.Timeout | undefined;

beforeAll(async () => {
  [shop, browser] = await Promise.all([ConsoleShop.open(MAKES_PICTURES ? 1_500 : undefined), TestBrowser.launch()]);
  await until('the payments have failed', async () => (await shop.deadLetters('payments')) === 3, 30_000);
  if (MAKES_PICTURES) traffic = setInterval(() => void shop.order(2 + Math.floor(Math.random() * 9)), 150);
});
afterEach(async () => {
  shop.orders.isOpen = true;
  await browser.closePages();
});
afterAll(async () => {
  clearInterval(traffic);
  await browser[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

const first = async (key: string): Promise<string> =>
  (await shop.redis.xrange(key, '-', '+', 'COUNT', 1))[0]?.[0] ?? '';

interface Case {
  readonly name: string;
  readonly url: () => Promise<string> | string;
  /** Seen when the page has all that it shows. */
  readonly text: string | RegExp;
  /** Whether a picture shows the whole page, not only the window. */
  readonly isWhole?: boolean;
  /** So that a picture shows more than a moment. */
  readonly live?: (opened: TestPage) => Promise<void>;
}

/** Until a line of the rate is long enough to be looked at. */
async function showRates({ page }: TestPage): Promise<void> {
  const points = (): Promise<number> => page.evaluate<number>(`document.querySelector('polyline')?.points.length ?? 0`);
  await until('the line has a shape', async () => (await points()) > 10, 60_000);
}

/** Orders that wait, are handled, and wait again. */
async function showLag({ page }: TestPage): Promise<void> {
  for (const isOpen of [false, true, false]) {
    shop.orders.isOpen = isOpen;
    const shown = isOpen ? /Up to date|Keeping up/ : /Behind/;
    await page.locator('.heading .state').getByText(shown).waitFor();
    // The picture shows some time without lag.
    if (isOpen) await page.waitForTimeout(6_000);
  }
}

const CASES: readonly Case[] = [
  { name: 'streams', url: () => '', text: 'accounting', live: showRates },
  { name: 'groups', url: () => 'stream?stream=orders', text: 'analytics', live: showRates },
  { name: 'messages', url: () => 'messages?stream=orders&order=oldest', text: 'customer-6' },
  {
    name: 'message',
    url: async () => `message?stream=orders&id=${await first('orders')}`,
    text: '"espresso machine"',
  },
  { name: 'dead-letters', url: () => 'dead-letters?stream=payments', text: 'the bank is closed' },
  {
    name: 'dead-letter',
    url: async () => `dead-letter?stream=payments&id=${await first('payments.dead')}`,
    text: 'Payload',
    isWhole: true,
  },
  { name: 'delayed', url: () => 'delayed?stream=orders', text: /in 2 h 59 m|in 3 h/ },
  { name: 'shards', url: () => 'shards?stream=shipments', text: 'shipments:3' },
  { name: 'group', url: () => `group?stream=orders&group=${SHOP}`, text: 'shop-1', live: showLag },
  { name: 'owners', url: () => 'group?stream=shipments&group=warehouse', text: 'Owners of shards', isWhole: true },
  { name: 'health', url: () => 'health', text: 'shop-1' },
];

it.each(CASES)(
  'the page $name has nothing that keeps people out, breaks no policy, and fits a phone, in light and dark',
  async ({ name, url, text, live, isWhole }) => {
    const opened = await browser.open(shop.url + (await url()));
    const { page } = opened;
    await opened.sees(text);
    expect(await opened.barriers()).toEqual([]);
    if (MAKES_PICTURES) {
      await live?.(opened);
      await opened.picture(`${name}-light`, isWhole);
      await page.emulateMedia({ colorScheme: 'dark' });
      await opened.picture(`${name}-dark`, isWhole);
    }
    await page.emulateMedia({ colorScheme: 'dark' });
    await page.setViewportSize({ width: PHONE, height: 740 });
    expect(await opened.overflow()).toBeLessThanOrEqual(0);
    expect(await opened.barriers()).toEqual([]);
    if (MAKES_PICTURES && live) await opened.picture(`${name}-phone`);
    expect(opened.problems).toEqual([]);
  },
);

it('a page that is opened by its address has its own heading and title', async () => {
  const { page } = await browser.open(`${shop.url}group?stream=orders&group=${SHOP}`);
  await page.getByRole('heading', { name: SHOP, level: 1 }).waitFor();
  expect(await page.title()).toBe(`${SHOP} · Redis Streams`);
});

it('a long name wraps after its separators on a phone, not inside a word', async () => {
  const name = 'emails.transactional.confirmation';
  const { page } = await browser.open(`${shop.url}stream?stream=${name}`, { width: PHONE });
  await page.getByRole('heading', { name, level: 1, exact: true }).waitFor();
  const lines = await page.evaluate<number[]>(`[...document.querySelector('h1').childNodes]
    .filter((node) => node.nodeType === Node.TEXT_NODE)
    .map((node) => { const range = new Range(); range.selectNode(node); return range.getClientRects().length; })`);
  expect(lines).toEqual([1, 1, 1]);
});
