import { afterAll, afterEach, beforeAll, expect, it, jest } from '@jest/globals';

import { DEAD_LETTER_HEADERS } from '../../../lib/index.js';
import type { RedisStreamer } from '../../../lib/index.js';
import { TestBrowser } from '../../support/browser.js';
import type { TestPage } from '../../support/browser.js';
import { ConsoleApp } from '../../support/console-app.js';
import { useStreams } from '../../support/streams.js';

jest.setTimeout(120_000);

const streams = useStreams();
let browser: TestBrowser;

beforeAll(async () => {
  browser = await TestBrowser.launch();
});
afterEach(() => browser.closePages());
afterAll(() => browser[Symbol.asyncDispose]());

const MARKUP = [
  '<img src=x onerror="window.attacked=1">',
  '"><script>window.attacked=1</script>',
  "'-window.attacked=1-'",
  '</title><svg onload="window.attacked=1">',
  '{{constructor.constructor("window.attacked=1")()}}',
  '<a href="javascript:window.attacked=1" autofocus onfocus="window.attacked=1">x</a>',
];
const ATTACKS = [MARKUP.join(' '), 'javascript:window.attacked=1'];

/** Everything that a producer can name or fill, with the text of an attack. */
async function attack(streamer: RedisStreamer, text: string): Promise<{ stream: string; ids: string[] }> {
  const stream = `s ${text}`;
  const producer = await streamer.createProducer(stream);
  await producer.send(text, { key: text, headers: { plain: text } });
  await producer.send(JSON.stringify({ [text]: [text] }), { headers: { plain: text } });
  await producer.send(text, { delay: 3_600_000, headers: { plain: text } });
  await streams.redis.xgroup('CREATE', stream, `g ${text}`, '0');
  await streams.redis.xreadgroup('GROUP', `g ${text}`, `c ${text}`, 'STREAMS', stream, '>');
  const dead = await streamer.createProducer(`${stream}.dead`);
  const names = Object.values(DEAD_LETTER_HEADERS);
  await dead.send(JSON.stringify({ [text]: text }), {
    headers: { ...Object.fromEntries(names.map((name) => [name, text])), [DEAD_LETTER_HEADERS.stream]: stream },
  });
  const entries = await streams.redis.xrange(stream, '-', '+');
  const [[letter] = ['']] = await streams.redis.xrange(`${stream}.dead`, '-', '+');
  return { stream, ids: [...entries.map(([id]) => id), letter] };
}

/** Whether something ran, or became an element. */
async function traces({ page, problems }: TestPage): Promise<unknown> {
  const found = await page.evaluate(`({
    attacked: window.attacked,
    elements: document.querySelectorAll('main img, main script, main iframe, [onerror], [onload], [onfocus]').length,
    links: [...document.links].filter((link) => link.protocol === 'javascript:').length,
  })`);
  return { found, problems };
}

it('texts of producers stay texts: names of streams, groups and consumers, keys, headers, payloads, reasons and stacks', async () => {
  const streamer = await streams.connect();
  const targets = [];
  for (const text of ATTACKS) targets.push({ text, ...(await attack(streamer, text)) });
  await streamer.disconnect();
  await using console = await ConsoleApp.start({
    guards: [],
    connection: streams.url,
    readOnly: false,
    showPayloads: true,
  });
  const opened = await browser.open(console.urlOf(''));
  const { page } = opened;
  const clean = { found: { elements: 0, links: 0 }, problems: [] };
  for (const { stream } of targets) await page.getByRole('link', { name: stream, exact: true }).waitFor();
  expect(await traces(opened)).toEqual(clean);

  const go = async (name: string, query: Record<string, string>, text: string): Promise<void> => {
    await page.goto(console.urlOf(`${name}?${new URLSearchParams(query).toString()}`));
    await page.getByText(text).first().waitFor();
    expect({ name, query, traces: await traces(opened) }).toEqual({ name, query, traces: clean });
  };
  for (const { text, stream, ids } of targets) {
    await go('stream', { stream }, `g ${text}`);
    await go('messages', { stream, key: text, header: `plain=${text}`, text }, text);
    await go('message', { stream, id: ids[0] ?? '' }, text);
    await go('message', { stream, id: ids[1] ?? '' }, text);
    await go('dead-letters', { stream }, text);
    await go('dead-letter', { stream, id: ids[2] ?? '' }, text);
    await page.getByRole('button', { name: 'Redrive…' }).click();
    await page.getByRole('dialog').waitFor();
    await go('group', { stream, group: `g ${text}` }, `c ${text}`);
  }
  const [{ text, stream } = { text: '', stream: '' }] = targets;
  await go('delayed', { stream }, text);
  await go('shards', { stream }, stream);
  // From an address that an attacker has sent.
  await go('', { search: text }, `s ${text}`);
  await go('', { search: `${text} not` }, text);
  await go('group', { stream, group: `not ${text}` }, text);
  await browser.closePages();
});
