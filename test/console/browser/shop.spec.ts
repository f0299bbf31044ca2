import { afterAll, afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';

import { TestBrowser } from '../../support/browser.js';
import type { TestPage } from '../../support/browser.js';
import { ConsoleApp } from '../../support/console-app.js';
import { ConsoleShop, SHOP } from '../../support/console-shop.js';
import { until } from '../../support/until.js';

jest.setTimeout(120_000);
jest.spyOn(console, 'log').mockImplementation(() => undefined);

const LIMIT = 30_000;

let shop: ConsoleShop;
let browser: TestBrowser;

beforeAll(async () => {
  [shop, browser] = await Promise.all([ConsoleShop.open(), TestBrowser.launch()]);
  await until('the payments have failed', async () => (await shop.deadLetters('payments')) === 3, LIMIT);
});
afterEach(() => browser.closePages());
afterAll(async () => {
  await browser[Symbol.asyncDispose]();
  await shop[Symbol.asyncDispose]();
});

const open = (path: string): Promise<TestPage> => browser.open(shop.url + path);

/** Counts how far the browser has moved drawn elements, except after a click. */
const NOTE_SHIFTS = `
  window.shifted = 0;
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
  }).observe({ type: 'layout-shift', buffered: true });
`;

describe('a group', () => {
  it('is paused and resumed; its lag grows and falls in the list and on its page, where nothing moves', async () => {
    const list = await open('');
    await list.page.evaluate(NOTE_SHIFTS);
    const { page } = await open(`group?stream=orders&group=${SHOP}`);
    const chip = list.page.getByRole('link', { name: new RegExp(`^${SHOP}`) }).first();
    await chip.waitFor();

    await page.getByRole('button', { name: 'Pause' }).click();
    await page.getByText(`${SHOP} is paused, in all of its processes.`).waitFor();
    await page.getByRole('button', { name: 'Resume' }).waitFor();
    await until('the service has seen the pause', () => shop.hasPausedOrders(), LIMIT);
    await shop.order(1_234);
    // Before Redis 7.0 only the age of the oldest waiting message is known.
    const lag = (await shop.countsLag()) ? /^1,234/ : /^\d+ s$/;
    await page.getByRole('definition').getByText(lag).first().waitFor();
    await chip.getByText(lag).waitFor();
    await chip.getByText('Paused').waitFor();
    await list.page.getByText('1 group paused').waitFor();

    const handled = shop.orders.handled;
    await page.getByRole('button', { name: 'Resume' }).click();
    await page.getByText('Up to date').waitFor();
    await chip.getByText('Up to date').waitFor();
    expect(shop.orders.handled).toBe(handled + 1_234);
    expect(await list.page.evaluate('window.shifted')).toBeLessThan(0.01);
    expect(list.problems).toEqual([]);
  });

  it('is moved to its beginning after a preview, and handles its messages again', async () => {
    const { page, problems } = await open(`group?stream=orders&group=${SHOP}`);
    await page.getByRole('button', { name: 'Set position…' }).click();
    const dialog = page.getByRole('dialog');
    const move = dialog.getByRole('button', { name: 'Move the group' });
    expect(await move.isDisabled()).toBe(true);
    await dialog.getByRole('radio', { name: 'The beginning' }).check();
    await dialog.getByRole('button', { name: 'Preview' }).click();
    const count = await shop.redis.xlen('orders');
    await dialog.getByText(`${count.toLocaleString('en')} messages`).waitFor();
    // Another target needs another preview.
    await dialog.getByRole('radio', { name: 'The end' }).check();
    expect(await move.isDisabled()).toBe(true);
    await dialog.getByRole('radio', { name: 'The beginning' }).check();
    await dialog.getByRole('button', { name: 'Preview' }).click();
    await dialog.getByText(`${count.toLocaleString('en')} messages`).waitFor();
    const handled = shop.orders.handled;
    await move.click();
    await page.getByText(`${SHOP} was moved`).waitFor();
    await until('the orders are handled again', () => shop.orders.handled >= handled + count, LIMIT);
    expect(problems).toEqual([]);
  });

  it('shows its pending entries and their idle times while its handlers are busy', async () => {
    shop.orders.isOpen = false;
    await shop.order(3);
    const { page } = await open(`group?stream=orders&group=${SHOP}`);
    const pending = page.getByRole('table', { name: 'Pending entries' });
    await pending.getByRole('cell', { name: 'shop-1' }).first().waitFor();
    shop.orders.isOpen = true;
    await page.getByText('Nothing is pending').waitFor();
  });

  it('shows an entry that was put back as such, not with the idle time that makes a consumer claim it', async () => {
    const [[id] = ['']] = await shop.redis.xrange('orders', '-', '+', 'COUNT', 1);
    await shop.redis.xgroup('CREATE', 'orders', 'stopped', '$');
    const month = 30 * 24 * 3_600_000;
    await shop.redis.xclaim('orders', 'stopped', 'old', 0, id, 'IDLE', month, 'RETRYCOUNT', 0, 'FORCE', 'JUSTID');
    const { page } = await open('group?stream=orders&group=stopped');
    await page.getByRole('cell', { name: 'put back' }).waitFor();
    expect(await page.getByText('30 d').count()).toBe(0);
    await shop.redis.xgroup('DESTROY', 'orders', 'stopped');
  });
});

describe('dead letters', () => {
  it('one is opened, put back after a dry run, and handled', async () => {
    const { page, problems } = await open('');
    await page.getByRole('link', { name: '3', exact: true }).click();
    await page.getByRole('link', { name: 'Error: the bank is closed' }).click();
    await page.getByRole('heading', { name: 'Error', level: 1 }).waitFor();
    await page.getByText(/at Bank\.charge/).waitFor();
    await page.getByText('"big-sum"').waitFor();
    const origin = page.locator('.note').getByRole('link');
    const id = await origin.innerText();
    await origin.click();
    await page.getByRole('heading', { name: id, level: 1 }).waitFor();
    await page.getByText('"big-sum"').waitFor();
    await page.goBack();
    await page.getByText(/at Bank\.charge/).waitFor();

    shop.bank.isOpen = true;
    await page.getByRole('button', { name: 'Redrive…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText(`1 dead letter would go back to ${SHOP}.`).waitFor();
    expect(await shop.deadLetters('payments')).toBe(3);
    await dialog.getByRole('button', { name: 'Redrive', exact: true }).click();
    await page.getByText(`1 dead letter went back to ${SHOP}.`).waitFor();
    await until('the payment is handled', () => shop.bank.paid.includes('big-sum'), LIMIT);

    await page.getByRole('link', { name: 'RedisStreamsDeadLetterException: nothing to pay' }).first().waitFor();
    expect(await page.getByText('the bank is closed').count()).toBe(0);
    await page.getByRole('navigation', { name: 'Parts of the stream' }).getByText('2', { exact: true }).waitFor();
    expect(problems).toEqual([]);
  });

  it('are filtered by an address that can be shared, selected, and deleted after a dry run', async () => {
    const { page, problems } = await open('dead-letters?stream=payments');
    await page.getByLabel('Error').fill('no such error');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.getByText('No dead letter matches').waitFor();
    expect(new URL(page.url()).searchParams.get('error')).toBe('no such error');
    await page.goto(`${shop.url}dead-letters?stream=payments&reason=nothing`);
    expect(await page.getByLabel('Reason').inputValue()).toBe('nothing');

    await page.getByRole('checkbox', { name: 'Select all on this page' }).check();
    await page.getByRole('button', { name: 'Delete 2 selected…' }).click();
    const dialog = page.getByRole('dialog');
    await dialog.getByText('2 dead letters would be deleted.').waitFor();
    await dialog.getByRole('button', { name: 'Cancel' }).click();
    expect(await shop.deadLetters('payments')).toBe(2);
    await page.getByRole('button', { name: 'Delete 2 selected…' }).click();
    await dialog.getByText('2 dead letters would be deleted.').waitFor();
    await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
    await page.getByText('2 dead letters deleted.').waitFor();
    expect(await shop.deadLetters('payments')).toBe(0);
    await page.getByRole('link', { name: 'Clear the filter' }).click();
    await page.getByRole('heading', { name: 'No dead letters' }).waitFor();
    expect(problems).toEqual([]);
  });
});

describe('messages', () => {
  it('are found by key, header, text and id, and page by page; the browser goes back', async () => {
    const { page, problems } = await open('messages?stream=orders');
    const rows = page.getByRole('table', { name: 'Messages of orders' }).getByRole('link');
    await rows.nth(49).waitFor();
    const newest = await rows.first().innerText();
    await page.getByRole('link', { name: 'Earlier messages' }).click();
    await until('there are others', async () => (await rows.first().innerText()) !== newest, LIMIT);
    await page.goBack();
    await until('they are back', async () => (await rows.first().innerText()) === newest, LIMIT);

    await page.getByLabel('Key').fill('customer-3');
    await page.getByLabel('Header').fill('tenant=eu');
    await page.getByLabel('Text').fill('order-3"');
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.getByText(/entries searched/).waitFor();
    const payloads = page.getByText('"order-3"');
    await payloads.first().waitFor();
    expect(await page.getByText('customer-3').count()).toBe(await payloads.count());

    await page.getByLabel('Id').fill(newest);
    await page.getByRole('button', { name: 'Filter' }).click();
    await page.getByRole('heading', { name: newest, level: 1 }).waitFor();
    await page.getByRole('button', { name: 'Raw' }).click();
    await page.getByRole('region', { name: 'Payload as text' }).waitFor();
    expect(problems).toEqual([]);
  });

  it('that are new are announced, and do not move those that are read', async () => {
    const { page } = await open('messages?stream=payments');
    const rows = page.getByRole('table', { name: 'Messages of payments' }).getByRole('link');
    await rows.first().waitFor();
    const before = await rows.count();
    await page.getByText('Live', { exact: true }).waitFor();
    await page.getByRole('definition').first().getByText(String(before)).waitFor();
    await shop.pay('tea', 2);
    await page.getByRole('button', { name: 'Show newer messages' }).click();
    await until('it is there', async () => (await rows.count()) === before + 1, LIMIT);
  });

  it('that are due later are cancelled', async () => {
    const { page, problems } = await open('delayed?stream=orders');
    await page
      .getByRole('button', { name: /^Cancel / })
      .first()
      .click();
    await page.getByRole('button', { name: 'Keep the message' }).click();
    expect(await page.getByRole('button', { name: /^Cancel / }).count()).toBe(3);
    await page
      .getByRole('button', { name: /^Cancel / })
      .first()
      .click();
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel the message' }).click();
    await page.getByText('The delayed message was cancelled.').waitFor();
    await until(
      'two are left',
      async () => (await page.getByRole('button', { name: /^Cancel / }).count()) === 2,
      LIMIT,
    );
    expect(problems).toEqual([]);
  });
});

describe('by the keyboard', () => {
  it('a stream is searched and opened, a dialog is left with Escape, and the focus returns', async () => {
    const before = await shop.deadLetters('payments');
    await shop.pay('gift', 0);
    await until('it has failed', async () => (await shop.deadLetters('payments')) === before + 1, LIMIT);
    const { page } = await open('');
    await page.getByRole('link', { name: 'shipments', exact: true }).waitFor();
    await page.keyboard.press('/');
    await page.keyboard.type('paym');
    await until(
      'the others are gone',
      async () => (await page.getByRole('link', { name: 'shipments' }).count()) === 0,
      LIMIT,
    );
    expect(new URL(page.url()).searchParams.get('search')).toBe('paym');

    const focused = (): Promise<string> => page.evaluate<string>('document.activeElement.textContent.trim()');
    const tabTo = async (text: string): Promise<void> => {
      for (let presses = 0; presses < 40; presses += 1) {
        await page.keyboard.press('Tab');
        if ((await focused()).startsWith(text)) return;
      }
      throw new Error(`the key Tab does not lead to ${text}`);
    };
    await tabTo('payments');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'payments', level: 1 }).waitFor();
    await until('the heading has the focus', async () => (await focused()) === 'payments', LIMIT);
    await tabTo('Dead letters');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: 'Redrive all…' }).waitFor();
    await tabTo('Redrive all…');
    await page.keyboard.press('Enter');
    await page.getByText(/would go back to/).waitFor();
    await page.keyboard.press('Escape');
    await until('the dialog is closed', async () => (await page.getByRole('dialog').count()) === 0, LIMIT);
    await until('the focus is back', async () => (await focused()) === 'Redrive all…', LIMIT);
    await page.keyboard.press('Enter');
    await page.getByText(/would go back to/).waitFor();
    await tabTo('Redrive');
    await page.keyboard.press('Enter');
    await page.getByText(/went back to/).waitFor();
  });

  it('the list is sorted, which its headers and its address say', async () => {
    const { page } = await open('');
    const header = page.getByRole('columnheader', { name: 'Entries' });
    await header.getByRole('button').focus();
    await page.keyboard.press('Enter');
    await until(
      'the header has the order',
      async () => (await header.getAttribute('aria-sort')) === 'descending',
      LIMIT,
    );
    const titles = page.getByRole('table', { name: 'Streams' }).locator('a.title');
    await until('the longest is first', async () => (await titles.first().innerText()) === 'orders', LIMIT);
    expect(new URL(page.url()).search).toBe('?sort=length&desc=1');
  });
});

describe('the console', () => {
  it('keeps the theme that was chosen', async () => {
    const { page } = await open('');
    await page.getByRole('button', { name: 'Theme: system. Change to light' }).click();
    await page.getByRole('button', { name: 'Theme: light. Change to dark' }).click();
    await page.reload();
    await page.getByRole('button', { name: 'Theme: dark. Change to system' }).waitFor();
    expect(await page.evaluate('getComputedStyle(document.body).colorScheme')).toBe('dark');
  });

  it('says that its feed is lost and why, and renews itself', async () => {
    const { page } = await open('health');
    await page.getByText('Live', { exact: true }).waitFor();
    await page.route('**/api/**', (route) => route.fulfill({ status: 401, json: { message: 'Unauthorized' } }));
    await page.getByRole('link', { name: 'Streams', exact: true }).click();
    await page.getByText('Sign in to the application again').waitFor();
    await page.getByText('Stopped', { exact: true }).waitFor();
    await page.unroute('**/api/**');
    await page.getByText('Live', { exact: true }).waitFor();
    await page.getByRole('link', { name: 'invoices', exact: true }).waitFor();
    expect(await page.getByText('Sign in to the application again').count()).toBe(0);
  });

  it('asks for nothing while its page is hidden', async () => {
    const { page } = await open('');
    await page.getByText('Live', { exact: true }).waitFor();
    const hide = (isHidden: boolean): Promise<unknown> =>
      page.evaluate(`Object.defineProperty(document, 'hidden', { value: ${isHidden}, configurable: true });
        document.dispatchEvent(new Event('visibilitychange'));`);
    const closed = page.waitForEvent('requestfailed', (request) => request.url().includes('api/live'));
    await hide(true);
    await closed;
    const opened = page.waitForRequest(/api\/live/);
    await hide(false);
    await opened;
  });

  it('shows many streams page by page, and finds each of them', async () => {
    for (let n = 100; n < 220; n += 1) await shop.redis.xadd(`many-${n}`, '*', 'd', '1');
    await using many = await ConsoleApp.start({
      guards: [],
      connection: shop.connection,
      streams: (key) => key.startsWith('many-'),
    });
    const { page } = await browser.open(many.urlOf(''));
    const titles = page.getByRole('table', { name: 'Streams' }).locator('a.title');
    await page.getByText('1 to 50 of 120').waitFor();
    expect(await titles.count()).toBe(50);
    await page.getByRole('link', { name: 'Next' }).click();
    await page.getByText('51 to 100 of 120').waitFor();
    await page.getByRole('link', { name: 'many-150' }).waitFor();
    await page.getByRole('link', { name: 'Next' }).click();
    await page.getByText('101 to 120 of 120').waitFor();
    expect(await page.getByRole('link', { name: 'Next' }).count()).toBe(0);
    await page.getByRole('searchbox', { name: 'Search streams' }).fill('-111');
    await page.getByText('1 of 120 streams').waitFor();
    await page.getByRole('link', { name: 'many-111' }).waitFor();
    await browser.closePages();
  });

  it('says that Redis does not answer, keeps its figures, and renews them', async () => {
    const { page } = await open('');
    await page.getByRole('link', { name: 'invoices', exact: true }).waitFor();
    const failed = 'event: failed\ndata: {"message":"The connection to Redis is lost","code":"ERR_CONNECTION"}\n\n';
    await page.route('**/api/live?*', (route) => route.fulfill({ contentType: 'text/event-stream', body: failed }));
    await page.getByRole('columnheader', { name: 'Entries' }).getByRole('button').click();
    await page.getByRole('alert').getByText('The connection to Redis is lost').waitFor();
    await page.getByText('Look whether Redis runs').waitFor();
    expect(await page.getByRole('link', { name: 'invoices', exact: true }).count()).toBe(1);
    await page.unroute('**/api/live?*');
    await until('the failure is over', async () => (await page.getByRole('alert').count()) === 0, LIMIT);
  });

  it('says what to do where there is nothing', async () => {
    const { page } = await open('?search=no-such-stream');
    await page.getByRole('heading', { name: 'No stream matches “no-such-stream”' }).waitFor();
    await page.goto(`${shop.url}stream?stream=no-such-stream`);
    await page.getByRole('heading', { name: 'There is no such stream' }).waitFor();
    await page.goto(`${shop.url}group?stream=orders&group=no-such-group`);
    await page.getByRole('heading', { name: 'There is no such group' }).waitFor();
    await page.goto(`${shop.url}message?stream=orders&id=1-0`);
    await page.getByRole('alert').waitFor();
    await page.goto(`${shop.url}group?stream=orders`);
    await page.getByRole('heading', { name: 'There is no such page' }).waitFor();
  });

  it('has no button that changes something where it is read-only, and no payload where they are hidden', async () => {
    // Also on the other adapter, and below a prefix.
    await using readOnly = await ConsoleApp.start(
      { guards: [], connection: shop.connection, path: 'ops' },
      { adapter: 'fastify', configure: (app) => void app.setGlobalPrefix('api/v1') },
    );
    const urlOf = (path: string): string => readOnly.urlOf(`/api/v1/ops/${path}`);
    const opened = await browser.open(urlOf(`group?stream=orders&group=${SHOP}`));
    const { page } = opened;
    await page.getByText('Read-only').waitFor();
    await page.getByText('Up to date').waitFor();
    expect(await page.getByRole('button', { name: /Pause|Resume|Set position/ }).count()).toBe(0);
    await page.goto(urlOf('messages?stream=orders'));
    await page.getByText('hidden', { exact: true }).first().waitFor();
    expect(await page.getByLabel('Text').count()).toBe(0);
    await page.getByRole('table').getByRole('link').first().click();
    await page.getByText('Payloads are hidden.').waitFor();
    expect(opened.problems).toEqual([]);
    await browser.closePages();
  });
});
