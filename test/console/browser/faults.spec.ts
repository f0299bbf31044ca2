import { afterAll, afterEach, beforeAll, expect, it, jest } from '@jest/globals';

import { DEAD_LETTER_HEADERS } from '../../../lib/index.js';
import { TestBrowser } from '../../support/browser.js';
import { ConsoleApp } from '../../support/console-app.js';
import { deadLetterFields } from '../../support/dead-letter-fields.js';
import { useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

jest.setTimeout(120_000);

const streams = useStreams();
let browser: TestBrowser;

beforeAll(async () => {
  browser = await TestBrowser.launch();
});
afterEach(() => browser.closePages());
afterAll(() => browser[Symbol.asyncDispose]());

const start = (): Promise<ConsoleApp> =>
  ConsoleApp.start({ guards: [], connection: streams.url, readOnly: false, showPayloads: true });

it.each([
  { unit: 'nanoseconds', id: '1764331200123456789-0', text: /^\d+ d.* ago$|28 Nov 2025/ },
  { unit: 'milliseconds of the far future', id: '7258118400000-0', text: /^in \d+ d|2200/ },
  { unit: 'no unit of time', id: '18446744073709551614-0', text: 'no time' },
])('every page can be read when the times in ids have $unit', async ({ id, text }) => {
  const stream = 'ids';
  const { redis } = streams;
  await redis.xadd(stream, id, 'd', 'one');
  await redis.xgroup('CREATE', stream, 'readers', '0');
  await redis.xreadgroup('GROUP', 'readers', 'reader', 'STREAMS', stream, '>');
  await redis.xadd(`${stream}.dead`, id, 'd', 'dead', `h:${DEAD_LETTER_HEADERS.reason}`, 'late');
  await using app = await start();
  const { page, problems } = await browser.open(app.urlOf(`stream?stream=${stream}`));
  const time = page.getByText(text).first();
  await time.waitFor();
  for (const path of [
    `shards?stream=${stream}`,
    `group?stream=${stream}&group=readers`,
    `messages?stream=${stream}&since=${id}&until=${id}`,
    `message?stream=${stream}&id=${id}`,
    `dead-letters?stream=${stream}`,
    `dead-letter?stream=${stream}&id=${id}`,
  ]) {
    await page.goto(app.urlOf(path));
    await time.waitFor();
  }
  expect(problems).toEqual([]);
  await browser.closePages();
});

it('a page that cannot be drawn says what to do, and the other pages still work', async () => {
  await using app = await start();
  const { page } = await browser.open(app.urlOf('health'));
  await page.route('**/api/live?*', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: 'event: update\ndata: {"at":1,"rows":[null]}\n\n' }),
  );
  await page.getByRole('link', { name: 'Streams', exact: true }).click();
  await page.getByRole('heading', { name: 'This page cannot be shown', level: 1 }).waitFor();
  await page.getByRole('alert').getByText('TypeError').waitFor();
  await page.unroute('**/api/live?*');
  await page.getByRole('link', { name: 'Health', exact: true }).click();
  await page.getByRole('heading', { name: 'Health', level: 1 }).waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  await browser.closePages();
});

it('a dead letter shows a header of its message also when its value is that of another header', async () => {
  await streams.redis.xadd(
    'parcels.dead',
    '*',
    'd',
    'x',
    `h:${DEAD_LETTER_HEADERS.reason}`,
    'late',
    'h:dead-letter-note',
    'late',
  );
  const [[id] = ['']] = await streams.redis.xrange('parcels.dead', '-', '+');
  await using app = await start();
  const { page } = await browser.open(app.urlOf(`dead-letter?stream=parcels&id=${id}`));
  await page.getByText('dead-letter-note', { exact: true }).waitFor();
  expect(await page.getByText('dead-letter-reason', { exact: true }).count()).toBe(0);
  await browser.closePages();
});

it('another order opens its feed before the feed of the order before is closed', async () => {
  await streams.redis.xadd('parcels', '*', 'd', 'x');
  await using app = await start();
  const { page } = await browser.open(app.urlOf(''));
  await page.getByText('Live', { exact: true }).waitFor();
  const seen: string[] = [];
  page.on('response', (response) => response.url().includes('api/live') && seen.push('opened'));
  page.on('requestfailed', (request) => request.url().includes('api/live') && seen.push('closed'));
  await page.getByRole('columnheader', { name: 'Entries' }).getByRole('button').click();
  await until('the feed before is closed', () => seen.includes('closed'), 20_000);
  expect(seen).toEqual(['opened', 'closed']);
  await browser.closePages();
});

it('a feed that the server ends is replaced without a change of the page, until the guards refuse the viewer', async () => {
  await streams.redis.xadd('parcels', '*', 'd', 'x');
  let isAdmitted = true;
  await using app = await ConsoleApp.start(
    { guards: [{ canActivate: () => isAdmitted }], connection: streams.url },
    { visit: 1_500 },
  );
  const { page, problems } = await browser.open(app.urlOf(''));
  await page.getByText('Live', { exact: true }).waitFor();
  await page.getByRole('link', { name: 'parcels' }).first().waitFor();
  await page.evaluate(`
    window.changes = [];
    new MutationObserver(() => {
      const text = document.body.innerText;
      if (!text.includes('parcels')) changes.push('no rows');
      for (const word of ['Connecting', 'Reconnecting']) if (text.includes(word)) changes.push(word);
    }).observe(document.body, { childList: true, subtree: true, characterData: true });
  `);
  let [opened, open] = [0, 1];
  page.on('response', (response) => {
    if (!response.url().includes('api/live') || response.status() !== 200) return;
    opened += 1;
    open += 1;
  });
  const note = (request: { url(): string }): void => {
    if (request.url().includes('api/live')) open -= 1;
  };
  page.on('requestfailed', note).on('requestfinished', note);
  await until('the feed was replaced some times', () => opened >= 2, 20_000);
  expect(await page.evaluate('changes')).toEqual([]);
  await until('only one feed is open', () => open === 1, 20_000);
  expect(problems).toEqual([]);
  isAdmitted = false;
  await page.getByText('Forbidden resource').first().waitFor();
  await browser.closePages();
});

/** Feeds that the test fills: `feeds` has all that the page has opened. */
const OWN_FEEDS = `
  window.feeds = [];
  window.EventSource = class extends EventTarget {
    static OPEN = 1;
    static CLOSED = 2;
    readyState = 1;
    constructor() { super(); window.feeds.push(this); }
    close() { this.readyState = 2; }
    send(type, data) { this.dispatchEvent(new MessageEvent(type, { data: JSON.stringify(data) })); }
  };
`;

it('figures that are not renewed say how old they are, and a silent feed is opened again', async () => {
  await using app = await start();
  const { page } = await browser.open(app.urlOf('health'));
  await page.clock.install();
  await page.addInitScript(OWN_FEEDS);
  await page.reload();
  const send = (type: string): Promise<unknown> =>
    page.evaluate(`feeds.at(-1).send('${type}', { isHealthy: true, parts: [], at: Date.now(), now: Date.now() })`);
  const feeds = (): Promise<number> => page.evaluate<number>('feeds.length');
  await until('the page has a feed', async () => (await feeds()) === 1, 20_000);
  await send('update');
  await page.getByText('Live', { exact: true }).waitFor();
  await page.clock.runFor(25_000);
  await page.getByText('Late', { exact: true }).waitFor();
  await page.getByText(/^updated \d+ s ago$/).waitFor();
  await send('ping');
  await page.clock.runFor(30_000);
  expect(await feeds()).toBe(1);
  await page.clock.runFor(30_000);
  expect(await feeds()).toBe(2);
  expect(await page.evaluate('feeds[0].readyState')).toBe(2);
  await page.getByText('Reconnecting', { exact: true }).waitFor();
  await send('update');
  await page.getByText('Live', { exact: true }).waitFor();
  expect(await page.getByText(/^updated/).count()).toBe(0);
  await browser.closePages();
});

it('a change of dead letters goes as far as its dry run went', async () => {
  const origin = { stream: 'parcels', key: 'parcels', id: '1-0', group: 'readers', consumer: 'c', reason: 'late' };
  const add = (id: string) => streams.redis.xadd('parcels.dead', id, ...deadLetterFields('x', origin));
  for (const id of ['1-0', '2-0']) await add(id);
  await using app = await start();
  const { page } = await browser.open(app.urlOf('dead-letters?stream=parcels'));
  await page.getByRole('button', { name: 'Delete all…' }).click();
  await page.getByText('2 dead letters would be deleted.').waitFor();
  await add('3-0');
  await page.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click();
  await page.getByText('2 dead letters deleted.').waitFor();
  expect((await streams.redis.xrange('parcels.dead', '-', '+')).map(([id]) => id)).toEqual(['3-0']);
  await browser.closePages();
});

it('a move to the end says how many messages it skips, and skips no other', async () => {
  for (const id of ['1-0', '2-0', '3-0']) await streams.redis.xadd('parcels', id, 'd', 'x');
  await streams.redis.xgroup('CREATE', 'parcels', 'readers', '0');
  await using app = await start();
  const { page } = await browser.open(app.urlOf('group?stream=parcels&group=readers'));
  await page.getByRole('button', { name: 'Set position…' }).click();
  await page.getByRole('radio', { name: 'The end' }).check();
  await page.getByRole('button', { name: 'Preview' }).click();
  await page.getByText('3 messages that wait would be skipped').waitFor();
  await streams.redis.xadd('parcels', '4-0', 'd', 'later');
  await page.getByRole('button', { name: 'Move the group' }).click();
  await page.getByText('0 messages will be delivered; 3 messages that wait will be skipped.').waitFor();
  const read = await streams.redis.xreadgroup('GROUP', 'readers', 'c', 'STREAMS', 'parcels', '>');
  expect(read).toEqual([['parcels', [['4-0', ['d', 'later']]]]]);
  await browser.closePages();
});

it('ages are counted by the time at which the server sent an update, not by the time at which it was measured', async () => {
  await using app = await start();
  const { page } = await browser.open(app.urlOf('health'));
  const sent = Date.now();
  const row = { stream: 'parcels', length: 1, memory: null, rate: null, shards: 1, groups: [], deadLetters: 0 };
  const id = `${sent - 60 * 60_000}-0`;
  const update = { row, firstId: id, lastId: id, shards: [], at: sent - 30 * 60_000, now: sent };
  await page.route('**/api/live?*', (route) =>
    route.fulfill({ contentType: 'text/event-stream', body: `event: update\ndata: ${JSON.stringify(update)}\n\n` }),
  );
  await page.goto(app.urlOf('stream?stream=parcels'));
  await page
    .getByText(/^1 h( \d m)? ago$/)
    .first()
    .waitFor();
  await page.getByText(/^updated 30 m( \d+ s)? ago$/).waitFor();
  await browser.closePages();
});
