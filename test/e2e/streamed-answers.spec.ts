import { expect, it } from '@jest/globals';
import { finalize, firstValueFrom, interval, lastValueFrom, map, NEVER, startWith, take, timer, toArray } from 'rxjs';
import type { Observable } from 'rxjs';

import type { ClientRedisStreams, ServerRedisStreamsOptions } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { LogLines, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { stays, until } from '../support/until.js';

const nest = useNest();

/** A server whose answers never end, with the number of Observables that are subscribed to. */
async function ticking(
  source: () => Observable<unknown> = () => interval(5),
  options: Partial<ServerRedisStreamsOptions> = {},
): Promise<{ pattern: string; running: () => number }> {
  const pattern = uniqueName('ticks');
  let running = 0;
  await nest.serve(
    [
      onRequest(pattern, () => {
        running += 1;
        return source().pipe(finalize(() => (running -= 1)));
      }),
      onRequest(`${pattern}.ping`, () => 'pong'),
      onEvent(`${pattern}.event`, () => undefined),
    ],
    options,
  );
  return { pattern, running: () => running };
}

const ask = (client: ClientRedisStreams, pattern: string): Promise<unknown> => firstValueFrom(client.send(pattern, 1));

it.each<[name: string, leave: (client: ClientRedisStreams, pattern: string) => Promise<unknown>]>([
  ['unsubscribes after the first value', ask],
  ['is closed', async (client, pattern) => {
    client.send(pattern, 1).subscribe({ error: () => undefined });
    await until('an answer is there', async () => (await nest.redis.keys('reply:*')).length > 0);
    await client.close();
  }],
])('a streamed answer ends when its client %s, and its request is settled', async (_name, leave) => {
  const { pattern, running } = await ticking();
  await leave(nest.client(), pattern);

  await until('the handler is unsubscribed', () => running() === 0);
  await nest.untilSettled(pattern);
  const [replyStream] = (await nest.redis.keys('reply:*')) as [string];
  expect(await nest.redis.pttl(replyStream)).toBeGreaterThan(0);
  const length = await nest.redis.xlen(replyStream);
  await stays('no answer is added', async () => (await nest.redis.xlen(replyStream)) === length);
}); // prettier-ignore

it('a handler whose Observable never emits is unsubscribed as well when its client times out', async () => {
  const { pattern, running } = await ticking(() => NEVER);
  await expect(ask(nest.client({ requestTimeout: 300 }), pattern)).rejects.toMatchObject({
    code: 'ERR_REQUEST_TIMEOUT',
  });

  await until('the handler is unsubscribed', () => running() === 0);
  await nest.untilSettled(pattern);
});

it('answers that were given up free the places of their handlers for other messages', async () => {
  const { pattern } = await ticking(() => interval(5), { concurrency: 4 });
  const client = nest.client({ requestTimeout: 10_000 });
  for (let n = 0; n < 12; n += 1) expect(await ask(client, pattern)).toBe(0);

  expect(await ask(client, `${pattern}.ping`)).toBe('pong');
  await nest.emit(`${pattern}.event`, 1);
  await nest.untilSettled(`${pattern}.event`);
});

it('an answer that its client no longer reads ends, however many others the client reads', async () => {
  const others = 600;
  const { pattern, running } = await ticking(() => NEVER.pipe(startWith(0)), { concurrency: 2 * others });
  const client = nest.client({ requestTimeout: 60_000 });
  let read = 0;
  for (let n = 0; n < others; n += 1) client.send(pattern, 1).subscribe({ next: () => (read += 1), error: () => null });
  await until('the others are read', () => read === others);
  expect(await ask(client, pattern)).toBe(0);

  await until('its handler is unsubscribed', () => running() === others);
});

it('other answers to the same client are written to their end', async () => {
  const { pattern } = await ticking();
  await nest.serve(onRequest(`${pattern}.slow`, () => timer(0, 300).pipe(take(10))));
  const client = nest.client();
  const slow = lastValueFrom(client.send(`${pattern}.slow`, 1).pipe(toArray()));
  for (let n = 0; n < 3; n += 1) await ask(client, pattern);

  expect(await slow).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

it('a streamed answer has a time to live from its first value on, and ends when its client lets the stream expire', async () => {
  const { pattern, running } = await ticking();
  const replyStream = 'reply:of-a-client-that-is-gone';
  await addRaw(nest.redis, pattern, 'msg', '1', 'h:correlation-id', 'c', 'h:reply-to', replyStream);

  await until('it expires', async () => (await nest.redis.pttl(replyStream)) > 0);
  expect(running()).toBe(1);
  // As if its time were over.
  await nest.redis.del(replyStream);
  await until('the handler is unsubscribed', () => running() === 0);
  await nest.untilSettled(pattern);
  await until('what is left expires', async () => (await nest.redis.pttl(replyStream)) > 0);
});

it('a handler is unsubscribed from when an answer cannot be encoded or stored', async () => {
  const { pattern, running } = await ticking(() => interval(5).pipe(map((n) => (n < 3 ? n : { n: 1n }))));
  const client = nest.client({ logger: new LogLines() });
  await expect(lastValueFrom(client.send(pattern, 1))).rejects.toMatchObject({ status: 'error' });
  await until('the handler is unsubscribed', () => running() === 0);

  await nest.redis.set('reply:string', 'untouched');
  await addRaw(nest.redis, pattern, 'msg', '1', 'h:correlation-id', 'c', 'h:reply-to', 'reply:string');
  await nest.untilSettled(pattern);
  await until('the handler is unsubscribed', () => running() === 0);
});
