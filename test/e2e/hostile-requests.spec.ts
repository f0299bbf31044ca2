import { describe, expect, it } from '@jest/globals';
import { RpcException } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import type { ClientRedisStreams, DeadLetterEvent, RedisStreamsContext } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

const DEPTH = 100_000;
const DEEP = '['.repeat(DEPTH) + ']'.repeat(DEPTH);
const NOT_UTF8 = Buffer.from([0xff, 0xfe, 0x00, 0xc3, 0x28]);
const LAST_ID = '18446744073709551615-18446744073709551615';

const ask = (client: ClientRedisStreams, pattern: string, data: unknown): Promise<unknown> =>
  firstValueFrom(client.send<unknown>(pattern, data));

/** A request, written by a program that may append to the stream. */
const forge = (pattern: string, replyTo: string, deadline?: string): Promise<string> => {
  const until = deadline === undefined ? [] : ['h:deadline', deadline];
  return addRaw(nest.redis, pattern, 'msg', '1', 'h:correlation-id', 'c', 'h:reply-to', replyTo, ...until);
};

const payloadsOf = async (key: string): Promise<Array<string | undefined>> =>
  (await nest.entries(key)).map(({ fields }) => fields['msg']);

/** Every entry with its fields as bytes. */
const rawEntries = async (key: string): Promise<Buffer[][]> =>
  (await nest.redis.xrangeBuffer(key, '-', '+')).map(([, fields]) => fields);

describe('a forged request', () => {
  it.each(['', 'soon', 'NaN', '-1', '0x7fffffffffff', '1e400', '  ', '99999999999999999999999999', 'Infinity'])(
    'with the deadline %j is answered as if it had none',
    async (deadline) => {
      const pattern = uniqueName('deadline');
      await nest.serve(onRequest(pattern, () => 'answer'));
      await forge(pattern, 'reply:forged', deadline);

      await until('it is answered', async () => (await nest.redis.exists('reply:forged')) === 1);
      await nest.untilSettled(pattern);
      expect(await payloadsOf('reply:forged')).toEqual(['"answer"']);
    },
  );

  it('cannot make the server write to a key without the reply prefix', async () => {
    const pattern = uniqueName('forged');
    const targets = ['victim', '', 'REPLY:x', ' reply:x', 'x:reply:', 'reply', '__proto__', 'constructor', pattern];
    let handled = 0;
    const { log } = await nest.serve(onRequest(pattern, () => (handled += 1)));
    for (const target of targets) await forge(pattern, target);

    await until('all are refused', () => log.errors.length === targets.length);
    await nest.untilSettled(pattern);
    expect(handled).toBe(0);
    expect(await nest.redis.keys('*')).toEqual([pattern]);
    expect(await nest.redis.xlen(pattern)).toBe(targets.length);
  });

  it('cannot make the server write to a key outside of its own keyPrefix', async () => {
    const pattern = uniqueName('prefixed');
    const { log } = await nest.serve(onRequest(pattern, () => 1), { keyPrefix: 'app:', replyPrefix: 'answers:' }); // prettier-ignore
    for (const target of ['app:answers:x', 'reply:x', 'answers:x']) await forge(`app:${pattern}`, target);

    await until('one is answered', async () => (await nest.redis.exists('app:answers:x')) === 1);
    await nest.untilSettled(`app:${pattern}`);
    expect(log.errors).toHaveLength(2);
    expect((await nest.redis.keys('*')).sort()).toEqual(['app:answers:x', `app:${pattern}`]);
  });

  it('for a key with the prefix that is not a stream is settled, and others are answered', async () => {
    const pattern = uniqueName('typed');
    await nest.redis.set('reply:string', 'untouched');
    const { log } = await nest.serve(onRequest(pattern, () => 'answer'));
    await forge(pattern, 'reply:string');

    expect(await ask(nest.client(), pattern, 1)).toBe('answer');
    await nest.untilSettled(pattern);
    expect(await nest.redis.get('reply:string')).toBe('untouched');
    expect(log.errors.join('\n')).toMatch(/The reply to request .* was lost/);
  });

  it('that names two reply streams is checked by the one that is used', async () => {
    const pattern = uniqueName('twice');
    const { log } = await nest.serve(onRequest(pattern, () => 1));
    const named = ['h:correlation-id', 'c', 'h:reply-to', 'reply:x', 'h:reply-to', 'victim'];
    await addRaw(nest.redis, pattern, 'msg', '1', ...named);

    await until('it is refused', () => log.errors.length === 1);
    await nest.untilSettled(pattern);
    expect(await nest.redis.keys('*')).toEqual([pattern]);
  });

  it.each([
    ['a correlation id', { 'correlation-id': 'c'.repeat(513), 'reply-to': 'reply:x' }],
    ['the name of a reply stream', { 'correlation-id': 'c', 'reply-to': `reply:${'x'.repeat(513)}` }],
  ])('with %s of more than 512 characters is refused, without a reply', async (_name, headers) => {
    const pattern = uniqueName('long');
    let handled = 0;
    const { log } = await nest.serve(onRequest(pattern, () => (handled += 1)));
    await addRaw(nest.redis, pattern, 'msg', '1', ...Object.entries(headers).flatMap(([name, value]) => [`h:${name}`, value])); // prettier-ignore

    await until('it is refused', () => log.errors.length === 1);
    await nest.untilSettled(pattern);
    expect(log.errors[0]).toMatch(/more than 512 characters/);
    expect(log.errors[0]?.length).toBeLessThan(300);
    expect(handled).toBe(0);
    expect(await nest.redis.keys('*')).toEqual([pattern]);
  });

  it('cannot leave more than about 10,000 reply streams, and all of them expire', async () => {
    const pattern = uniqueName('names');
    const { log } = await nest.serve(onRequest(pattern, () => 'answer'));
    const [forged, most] = [11_000, 10_000];
    const pipeline = nest.redis.pipeline();
    for (let n = 0; n < forged; n += 1)
      pipeline.xadd(pattern, '*', 'msg', '1', 'h:correlation-id', 'c', 'h:reply-to', `reply:forged:${n}`);
    await pipeline.exec();

    await until('all are answered', async () => (await nest.redis.exists(`reply:forged:${forged - 1}`)) === 1, 30_000);
    await nest.untilSettled(pattern);
    expect(await ask(nest.client(), pattern, 1)).toBe('answer');
    await until('the oldest are gone', async () => (await nest.redis.dbsize()) <= most + 1);
    const keys = await nest.redis.keys('reply:*');
    expect(keys.length).toBeGreaterThan(0.9 * most - 100);
    const pings = nest.redis.pipeline();
    for (const key of keys) pings.pttl(key);
    const lifetimes = ((await pings.exec()) ?? []).map(([, ttl]) => ttl as number);
    expect(lifetimes.filter((ttl) => ttl === -1)).toEqual([]);
    expect(log.errors).toEqual([]);
  });

  it('with only one of the two request headers is an event', async () => {
    const pattern = uniqueName('half');
    const seen: unknown[] = [];
    await nest.serve(onEvent(pattern, (data) => seen.push(data)));
    await addRaw(nest.redis, pattern, 'msg', '1', 'h:reply-to', 'victim');
    await addRaw(nest.redis, pattern, 'msg', '2', 'h:correlation-id', 'c', 'h:deadline', '0');

    await until('both are handled', () => seen.length === 2);
    await nest.untilSettled(pattern);
    expect(await nest.redis.keys('*')).toEqual([pattern]);
  });
});

describe('a forged reply', () => {
  it('reaches only the request that it names, and does not end the reading of replies', async () => {
    const pattern = uniqueName('inbox');
    let replyTo = '';
    await nest.serve(
      onRequest(pattern, async (data, context: RedisStreamsContext) => {
        replyTo = String(context.getHeader('reply-to'));
        for (const id of ['__proto__', 'constructor', '', 'unknown']) {
          await addRaw(nest.redis, replyTo, 'msg', '"forged"', 'h:correlation-id', id, 'h:final', '1');
        }
        await addRaw(nest.redis, replyTo, NOT_UTF8, NOT_UTF8);
        await addRaw(nest.redis, replyTo, 'msg', DEEP.slice(1), 'h:correlation-id', 'unknown');
        return data;
      }),
    );
    const client = nest.client();

    expect(await ask(client, pattern, 'mine')).toBe('mine');
    expect(await ask(client, pattern, 'again')).toBe('again');
    expect(client.openRequests).toBe(0);
  });

  it('that cannot be decoded fails its request', async () => {
    const pattern = uniqueName('garbled');
    await nest.serve(
      onRequest(pattern, () => 1, {}),
      {
        serializer: { serialize: () => NOT_UTF8 },
      },
    );

    await expect(ask(nest.client(), pattern, 1)).rejects.toMatchObject({ code: 'ERR_PAYLOAD_DECODE' });
  });
});

describe('JSON of 100,000 levels', () => {
  it('as an event reaches its handler or becomes a dead letter, and the next events are handled', async () => {
    const pattern = uniqueName('deep');
    const seen: unknown[] = [];
    const dead: DeadLetterEvent[] = [];
    const handle = (data: unknown): void => void seen.push(Array.isArray(data) ? 'deep' : data);
    await nest.serve(onEvent(pattern, handle), { retry: false, onDeadLetter: (event) => void dead.push(event) });
    await addRaw(nest.redis, pattern, 'msg', DEEP);
    await addRaw(nest.redis, pattern, 'msg', DEEP.slice(1));
    await addRaw(nest.redis, pattern, 'msg', '"flat"');

    await until('all are settled', () => seen.length + dead.length === 3);
    await nest.untilSettled(pattern);
    expect(seen).toEqual(expect.arrayContaining(['deep', 'flat']));
    expect(dead.map(({ message }) => message.text())).toEqual([DEEP.slice(1)]);
  });

  it('as an answer fails only its own request', async () => {
    const pattern = uniqueName('echo');
    await nest.serve(onRequest(pattern, (data) => data));
    const client = nest.client({ serializer: { serialize: (data: unknown) => data as string } });

    await expect(ask(client, pattern, DEEP)).rejects.toMatchObject({ message: expect.stringMatching(/JSON/) });
    expect(await ask(client, pattern, '"flat"')).toBe('flat');
    await nest.untilSettled(pattern);
  });
});

it.each([
  ['a circle', (() => { const circle: Record<string, unknown> = {}; return (circle['self'] = circle); })()], // prettier-ignore
  ['a bigint', { total: 1n }],
])('a handler that fails with %s is answered with an error', async (_name, thrown) => {
  const pattern = uniqueName('thrown');
  await nest.serve(
    onRequest(pattern, () => {
      throw new RpcException(thrown);
    }),
  );

  await expect(ask(nest.client({ requestTimeout: 5_000 }), pattern, 1)).rejects.toMatchObject({
    status: 'error',
    message: expect.stringMatching(/JSON|BigInt/),
  });
  await nest.untilSettled(pattern);
});

it.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'then', 'a[b]?'])(
  'the pattern %j works like any other',
  async (name) => {
    const event = `${name}`;
    const seen: unknown[] = [];
    await nest.serve([
      onEvent(event, (data, context: RedisStreamsContext) => seen.push([data, context.getPattern()])),
      onRequest(`${name}.`, (data) => data),
    ]);
    await nest.emit(event, { from: name });

    await until('the event is handled', () => seen.length === 1);
    expect(seen).toEqual([[{ from: name }, name]]);
    expect(await ask(nest.client(), `${name}.`, name)).toBe(name);
    await expect(ask(nest.client(), `${name}?`, 1)).rejects.toMatchObject({ code: 'ERR_NO_HANDLER' });
    await nest.untilSettled(event);
  },
);

it('an event that cannot be decoded has no stack of this package, neither in the log nor in its dead letter', async () => {
  const pattern = uniqueName('undecodable');
  const { log } = await nest.serve(onEvent(pattern, () => undefined));
  await addRaw(nest.redis, pattern, 'msg', '{');

  await until('it is a dead letter', async () => (await nest.redis.exists(`${pattern}.dead`)) === 1);
  const [deadLetter] = await nest.entries(`${pattern}.dead`);
  expect(deadLetter?.fields).toMatchObject({ 'h:dead-letter-error-name': 'PayloadDecodeError' });
  expect(deadLetter?.fields).not.toHaveProperty('h:dead-letter-error-stack');
  expect(log.errors).toHaveLength(1);
  expect(log.errors[0]).toMatch(/JSON/);
  expect(log.errors[0]).not.toMatch(/\n\s+at /);
});

it('getHeader returns undefined for a header that was not sent, also for a name of Object.prototype', async () => {
  const pattern = uniqueName('absent');
  const seen: unknown[] = [];
  const names = ['__proto__', 'constructor', 'toString'];
  await nest.serve(
    onEvent(pattern, (_data, context: RedisStreamsContext) => seen.push(names.map((name) => context.getHeader(name)))),
  );
  await nest.emit(pattern, 1);
  await addRaw(nest.redis, pattern, 'msg', '1', ...names.flatMap((name) => [`h:${name}`, name]));

  await until('both are handled', () => seen.length === 2);
  expect(seen).toEqual([names.map(() => undefined), names]);
});

it('an entry of another program without a payload arrives as an object of its fields, also with names of Object.prototype', async () => {
  const pattern = uniqueName('fields');
  const seen: object[] = [];
  await nest.serve(onEvent(pattern, (data: object) => seen.push(data)));
  const fields = ['__proto__', 'polluted', 'constructor', 'c', 'a', '1'];
  await addRaw(nest.redis, pattern, ...fields);

  await until('it is handled', () => seen.length === 1);
  expect(Object.entries(seen[0] as object).flat()).toEqual(fields);
  expect(Object.getPrototypeOf(seen[0])).toBe(Object.prototype);
});

it('a dead letter has the fields of its message byte for byte, and keeps them when it is redriven', async () => {
  const pattern = uniqueName('bytes');
  const dead: DeadLetterEvent[] = [];
  const fail = (): never => {
    throw new Error('refused');
  };
  await nest.serve(onEvent(pattern, fail), { retry: false, onDeadLetter: (event) => void dead.push(event) });
  const stored = [NOT_UTF8, 'a', Buffer.from([0xfe]), 'b', 'msg', NOT_UTF8, 'twice', '1', 'twice', '2'].map((each) =>
    Buffer.from(each as string),
  );
  await addRaw(nest.redis, pattern, ...stored);

  await until('it is a dead letter', () => dead.length === 1);
  await nest.untilSettled(pattern);
  const [buried] = (await rawEntries(`${pattern}.dead`)) as [Buffer[]];
  expect(buried.slice(0, stored.length)).toEqual(stored);

  await nest.redis.xtrim(pattern, 'MAXLEN', 0);
  const manager = await nest.client().unwrap().createManager();
  expect(await manager.redrive(`${pattern}.dead`)).toEqual({ redriven: 1, skipped: 0 });
  const [again] = (await rawEntries(pattern)) as [Buffer[]];
  expect(again.slice(0, stored.length)).toEqual(stored);
});

it('a dead letter with a forged origin does not stop the redrive of others', async () => {
  const key = uniqueName('nowhere');
  const origin = (id: string): string[] =>
    Object.entries({ stream: key, key, id, group: 'g', consumer: 'c' }).flatMap(([name, value]) => [
      `h:dead-letter-${name}`,
      value,
    ]);
  for (const id of ['', 'x', '-', '+', '$', '1-2-3'])
    await addRaw(nest.redis, `${key}.dead`, 'msg', '1', ...origin(id));
  await addRaw(nest.redis, `${key}.dead`, 'msg', '2', ...origin('0-1'));
  await nest.redis.xgroup('CREATE', key, 'g', '0', 'MKSTREAM');
  const manager = await nest.client().unwrap().createManager();

  expect(await manager.redrive(`${key}.dead`)).toEqual({ redriven: 1, skipped: 6 });
  expect(await payloadsOf(key)).toEqual(['2']);
});

it('an entry with the largest possible id is handled, retried, and becomes a dead letter', async () => {
  const pattern = uniqueName('last');
  const dead: DeadLetterEvent[] = [];
  let handled = 0;
  const fail = (_data: unknown, context: RedisStreamsContext): never => {
    handled += 1;
    throw new Error(JSON.stringify(context.getMessage()));
  };
  await nest.serve(onEvent(pattern, fail), {
    retry: { attempts: 2, delay: 10 },
    onDeadLetter: (event) => void dead.push(event),
  });
  await nest.redis.xadd(pattern, LAST_ID, 'msg', '1');

  await until('it is a dead letter', () => dead.length === 1);
  await nest.untilSettled(pattern);
  expect(handled).toBe(2);
  expect(dead[0]?.message.id).toBe(LAST_ID);
  expect(await payloadsOf(`${pattern}.dead`)).toEqual(['1']);
});
