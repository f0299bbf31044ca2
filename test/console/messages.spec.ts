import { describe, expect, it } from '@jest/globals';
import type { MessagePage, MessageRow } from '../../packages/console/src/api.js';
import { ConsoleApp } from '../support/console-app.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

const start = (options = {}): Promise<ConsoleApp> =>
  ConsoleApp.start({ guards: [], connection: streams.url, showPayloads: true, ...options });

/** All pages of a search. */
async function pagesOf(console: ConsoleApp, query: string): Promise<MessagePage[]> {
  const pages: MessagePage[] = [];
  for (let after = ''; ;) {
    const page = await console.json<MessagePage>(`api/messages?${query}${after}`);
    pages.push(page);
    if (page.next === null) return pages;
    after = `&after=${encodeURIComponent(page.next)}`;
  }
}

const idsOf = (pages: readonly MessagePage[]): string[] =>
  pages.flatMap(({ messages }) => messages.map(({ id }) => id));

async function add(
  key: string,
  count: number,
  fields: (n: number) => Array<string | Buffer> = (n) => ['msg', `${n}`],
): Promise<string[]> {
  const ids = Array.from({ length: count }, (_, index) => `${index + 1}-0`);
  const pipeline = streams.redis.pipeline();
  for (const [index, id] of ids.entries()) pipeline.xadd(key, id, ...fields(index + 1));
  await pipeline.exec();
  return ids;
}

describe('messages', () => {
  it('come in pages, from either end, between ids and times, until the end', async () => {
    const ids = await add('orders', 120);
    await using console = await start();
    const forward = await pagesOf(console, 'stream=orders');
    expect(forward.map(({ messages }) => messages.length)).toEqual([50, 50, 20]);
    expect(idsOf(forward)).toEqual(ids);
    const backward = await pagesOf(console, 'stream=orders&newest=true');
    expect(idsOf(backward)).toEqual([...ids].reverse());
    expect(idsOf(await pagesOf(console, 'stream=orders&since=10-0&until=12'))).toEqual(['10-0', '11-0', '12-0']);
    const time = new Date(118).toISOString();
    expect(idsOf(await pagesOf(console, `stream=orders&since=${time}`))).toEqual(['118-0', '119-0', '120-0']);
    expect(idsOf(await pagesOf(console, `stream=orders&until=${time}&newest=true`)).slice(0, 2)).toEqual([
      '118-0',
      '117-0',
    ]);
    expect(forward[0]?.messages[0]).toEqual({
      id: '1-0',
      shard: 0,
      at: 1,
      key: null,
      headers: {},
      payload: { bytes: 1, text: '1', isBinary: false, isCut: false },
    });
  });

  it('of a stream with shards are one list in the order of their ids; equal ids are not lost between pages', async () => {
    for (const shard of [0, 1, 2]) await add(`orders:${shard}`, 50);
    await using console = await start();
    const pages = await pagesOf(console, 'stream=orders');
    const found = pages.flatMap(({ messages }) => messages.map(({ id, shard }) => `${id}/${shard}`));
    const expected = Array.from({ length: 150 }, (_, index) => `${Math.floor(index / 3) + 1}-0/${index % 3}`);
    expect(found).toEqual(expected);
    const backward = await pagesOf(console, 'stream=orders&newest=1');
    const back = backward.flatMap(({ messages }) => messages.map(({ id, shard }) => `${id}/${shard}`));
    expect(new Set(back)).toEqual(new Set(expected));
    expect(back).toHaveLength(150);
    const one = async (shard: string) =>
      (await console.json<MessageRow>(`api/message?stream=orders&id=7-0${shard}`)).shard;
    expect([await one(''), await one('&shard=2'), await one('&shard=1')]).toEqual([0, 2, 1]);
    expect((await console.get('api/message?stream=orders&id=7-0&shard=3')).status).toBe(404);
    expect((await console.get('api/message?stream=orders&id=7-0&shard=x')).status).toBe(400);
  });

  it('are found by key, header and text', async () => {
    await add('orders', 9, (n) => [
      'msg',
      `payload ${n}`,
      'h:key',
      `k${n % 3}`,
      'h:trace',
      `t=${n}`,
      'h:__proto__',
      'p',
    ]);
    await using console = await start();
    const found = async (query: string) => idsOf(await pagesOf(console, `stream=orders&${query}`));
    expect(await found('key=k1')).toEqual(['1-0', '4-0', '7-0']);
    expect(await found('header=trace%3Dt%3D5')).toEqual(['5-0']);
    expect(await found('header=__proto__')).toHaveLength(9);
    expect(await found('header=toString')).toEqual([]);
    expect(await found('text=load 8')).toEqual(['8-0']);
    expect(await found('text=load 8&key=k1')).toEqual([]);
    const [page] = await pagesOf(console, 'stream=orders&text=load 8');
    expect(page?.messages[0]).toMatchObject({
      key: 'k2',
      headers: JSON.parse('{"key":"k2","trace":"t=8","__proto__":"p"}'),
    });
  });

  it('are searched 5,000 at a time: a page without messages has a next one', async () => {
    await add('orders', 5_100, (n) => ['msg', n === 5_050 ? 'needle' : 'hay']);
    await using console = await start();
    const [first, second] = await pagesOf(console, 'stream=orders&text=needle');
    expect(first).toEqual({ messages: [], next: '5000-0/0', searched: 5_000 });
    expect(second).toMatchObject({ messages: [{ id: '5050-0' }], next: null, searched: 100 });
  });

  it('show what is no text in base64, and large payloads up to a limit, which cuts no character', async () => {
    const large = `${'é'.repeat(1_500)}!`;
    const huge = Buffer.alloc(5 * 1024 * 1024, 'x');
    const binary = Buffer.from([0xff, 0x00, 0xfe]);
    await streams.redis.xadd('orders', '1-0', 'msg', binary);
    await streams.redis.xadd('orders', '2-0', 'msg', `${'a'}${large}`);
    await streams.redis.xadd('orders', '3-0', 'msg', huge, 'h:big', 'h'.repeat(100_000));
    await streams.redis.xadd('orders', '4-0', 'other', 'field');
    await using console = await start();
    const { messages } = await console.json<MessagePage>('api/messages?stream=orders');
    expect(messages.map(({ payload: { bytes, isBinary, isCut } }) => [bytes, isBinary, isCut])).toEqual([
      [3, true, false],
      [3_002, false, true],
      [huge.length, false, true],
      [0, false, false],
    ]);
    expect(Buffer.from(messages[0]?.payload.text ?? '', 'base64')).toEqual(binary);
    expect(messages[1]?.payload.text).toBe(`a${'é'.repeat(1_023)}`);
    expect(messages[2]?.payload.text).toHaveLength(2_048);
    expect(messages[2]?.headers['big']).toMatch(/^h{1024}… \(100000 characters\)$/);
    const one = await console.json<MessageRow>('api/message?stream=orders&id=2-0');
    expect(one.payload).toEqual({ bytes: 3_002, text: `a${large}`, isBinary: false, isCut: false });
    const biggest = await console.json<MessageRow>('api/message?stream=orders&id=3-0');
    expect(biggest.payload).toMatchObject({ bytes: huge.length, isCut: true });
    expect(biggest.payload.text).toHaveLength(1024 * 1024);
  });

  it('answers with what was wrong: a missing stream or message, wrong values, a key of another type', async () => {
    await streams.redis.set('text', 'x');
    await add('orders', 1);
    await using console = await start();
    const failure = async (path: string) => {
      const { status, body } = await console.get(`api/${path}`);
      return [status, (body as { message: string }).message];
    };
    expect(await console.json('api/messages?stream=none')).toEqual({ messages: [], next: null, searched: 0 });
    expect(await failure('message?stream=orders&id=2-0')).toEqual([
      404,
      "The stream 'orders' has no message 2-0; it may have been trimmed or deleted",
    ]);
    expect(await failure('messages')).toEqual([400, "'stream' must be given"]);
    expect(await failure('messages?stream=a&stream=b')).toEqual([
      400,
      `'stream' must be a text, given once; got ["a","b"]`,
    ]);
    expect(await failure('messages?stream=orders&since=soon')).toEqual([
      400,
      `'since' must be the id of an entry, or a time such as 2026-01-31T12:00:00Z; got "soon"`,
    ]);
    expect(await failure('messages?stream=orders&after=x')).toEqual([
      400,
      `'after' must be the next of a page; got "x"`,
    ]);
    expect(await failure('message?stream=orders&id=x')).toEqual([400, `'id' must be the id of an entry; got "x"`]);
    expect(await failure('messages?stream=text')).toEqual([409, "The key 'text' holds another type than a stream"]);
    expect(await failure('live?view=x')).toEqual([400, `'view' must be JSON; got "x"`]);
    expect(await failure('live?view={"page":"x"}')).toEqual([
      400,
      `'page' must be streams, stream, group or health; got "x"`,
    ]);
  });
});

describe('the option streams', () => {
  const paths = (stream: string): string[] => [
    `messages?stream=${stream}`,
    `message?stream=${stream}&id=1-0`,
    `dead-letters?stream=${stream}`,
    `dead-letters?stream=orders&deadLetterStream=${stream}`,
    `dead-letter?stream=${stream}&id=1-0`,
    `delayed?stream=${stream}`,
    `live?view=${JSON.stringify({ page: 'stream', stream })}`,
    `live?view=${JSON.stringify({ page: 'group', stream, group: 'workers' })}`,
  ];

  it.each<[string, string[] | ((key: string) => boolean)]>([
    ['names', ['orders']],
    ['a function', (key) => key === 'orders'],
  ])('limits everything, also by direct URL, as %s', async (_case, allowed) => {
    for (const key of ['orders', 'orders.dead', 'secrets', 'secrets.dead']) await add(key, 1);
    await streams.redis.xadd(
      'orders.dead',
      '2-0',
      'msg',
      'x',
      'h:dead-letter-key',
      'secrets',
      'h:dead-letter-id',
      '1-0',
      'h:dead-letter-group',
      'workers',
      'h:dead-letter-consumer',
      'c',
    );
    await streams.redis.xgroup('CREATE', 'secrets', 'workers', '0');
    await using console = await start({ streams: allowed, readOnly: false });
    for (const stream of ['secrets', 'secrets.dead', 'none']) {
      for (const path of paths(stream)) {
        const { status, body } = await console.get(`api/${path}`);
        expect([path, status, body]).toEqual([
          path,
          404,
          { message: `The console shows no stream '${stream}'`, code: null },
        ]);
      }
      for (const [path, body] of [
        ['groups/pause', { group: 'workers' }],
        ['groups/resume', { group: 'workers' }],
        ['groups/position', { group: 'workers', to: 'beginning', dryRun: false }],
        ['dead-letters/redrive', { dryRun: false }],
        ['dead-letters/delete', { dryRun: false }],
        ['delayed/cancel', { shard: 0, id: 'x@1' }],
      ] as const)
        expect([path, (await console.post(`api/${path}`, { stream, ...body })).status]).toEqual([path, 404]);
    }
    expect(await console.json('api/message?stream=orders.dead&id=1-0')).toMatchObject({ id: '1-0' });
    await using viewer = await console.watch({ page: 'streams' });
    const update = await viewer.until('the streams are there', () => true);
    expect(update.rows.map(({ stream }) => stream)).toEqual(['orders']);
    // A dead letter may name any stream as its origin.
    expect(await console.change('api/dead-letters/redrive', { stream: 'orders', dryRun: false })).toEqual({
      changed: 0,
      skipped: 2,
      upTo: '2-0',
    });
    expect(await streams.redis.xlen('secrets')).toBe(1);
  });
});
