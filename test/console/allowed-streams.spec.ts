import { describe, expect, it } from '@jest/globals';
import { ServerRedisStreams } from '../../lib/index.js';
import type { DeadLetterChanged, DeadLetterPage, HealthUpdate, StreamsUpdate } from '../../packages/console/src/api.js';
import type { RedisStreamsConsoleOptions } from '../../packages/console/src/index.js';
import { ConsoleApp } from '../support/console-app.js';
import { deadLetterFields } from '../support/dead-letter-fields.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

const start = (options: RedisStreamsConsoleOptions = {}): Promise<ConsoleApp> =>
  ConsoleApp.start({ guards: [], connection: streams.url, showPayloads: true, readOnly: false, ...options });

const namesOf = ({ rows }: StreamsUpdate): string[] => rows.map(({ stream }) => stream);

describe('a stream that the option streams denies', () => {
  it('is reached by no name of its shards and dead letters', async () => {
    for (const key of ['payments:0', 'payments.dead', 'payments:0.dead', 'payments.dead:0', 'orders', 'reply:7'])
      await streams.redis.xadd(key, '1-0', 'msg', 'x');
    await using console = await start({ streams: (key) => key !== 'payments' });
    await using viewer = await console.watch({ page: 'streams' });
    expect(namesOf(await viewer.until('all keys are known', ({ isComplete }) => isComplete))).toEqual(['orders']);
    for (const stream of ['payments', 'payments:0', 'payments.dead', 'payments:0.dead', 'payments.dead:0', 'reply:7']) {
      for (const path of ['messages', 'message', 'dead-letters', 'dead-letter', 'delayed'])
        expect([stream, path, (await console.get(`api/${path}?stream=${stream}&id=1-0`)).status]).toEqual([
          stream,
          path,
          404,
        ]);
      const body = { stream: 'orders', deadLetterStream: stream, dryRun: false };
      expect([stream, (await console.post('api/dead-letters/delete', body)).status]).toEqual([stream, 404]);
    }
    expect((await console.get('api/messages?stream=orders')).status).toBe(200);
  });
});

describe('messages that are no dead letters', () => {
  const letter = (stream: string, key: string, id: string): string[] =>
    deadLetterFields('dead', { stream, key, id, group: 'workers', consumer: 'c', reason: 'failed' });

  it('are neither shown nor changed as some, in whatever stream a request looks for them', async () => {
    const { redis } = streams;
    await redis.xgroup('CREATE', 'orders', 'workers', '$', 'MKSTREAM');
    for (const key of ['orders', 'shared']) {
      await redis.xadd(key, '1-0', 'msg', 'alive');
      await redis.xadd(key, '2-0', ...letter('payments', 'payments', '1-0'));
      await redis.xadd(key, '3-0', ...deadLetterFields('half', { stream: 'orders', reason: 'failed' }));
      // Without the name of the stream, which the key then tells.
      const own = { key: 'payments', id: '1-0', group: 'workers', consumer: 'c' };
      await redis.xadd(key, '4-0', ...deadLetterFields('of payments', own));
      await redis.xadd(key, '9-0', ...letter('orders', 'orders', '1-0'));
    }
    await using console = await start();
    for (const deadLetterStream of ['orders', 'shared']) {
      const query = `stream=orders&deadLetterStream=${deadLetterStream}`;
      const { deadLetters } = await console.json<DeadLetterPage>(`api/dead-letters?${query}`);
      expect([deadLetterStream, deadLetters.map(({ id }) => id)]).toEqual([deadLetterStream, ['9-0']]);
      for (const id of ['1-0', '2-0', '3-0', '4-0']) {
        expect([id, (await console.get(`api/dead-letter?${query}&id=${id}`)).status]).toEqual([id, 404]);
        for (const change of ['delete', 'redrive']) {
          const body = { stream: 'orders', deadLetterStream, ids: [id], dryRun: false };
          const { changed } = await console.change<DeadLetterChanged>(`api/dead-letters/${change}`, body);
          expect([id, change, changed]).toEqual([id, change, 0]);
        }
      }
      const all = { stream: 'orders', deadLetterStream, dryRun: false };
      expect((await console.change<DeadLetterChanged>('api/dead-letters/delete', all)).changed).toBe(1);
      const left = (await redis.xrange(deadLetterStream, '-', '+')).map(([id]) => id);
      expect([deadLetterStream, left]).toEqual([deadLetterStream, ['1-0', '2-0', '3-0', '4-0']]);
    }
  });

  it('are shown in a stream that has the name of one of dead letters, and not deleted', async () => {
    await streams.redis.xgroup('CREATE', 'walking', 'workers', '$', 'MKSTREAM');
    await streams.redis.xadd('walking.dead', '1-0', 'msg', 'alive');
    await streams.redis.xadd('walking.dead', '2-0', ...letter('walking', 'walking', '1-0'));
    await using console = await start();
    const { deadLetters } = await console.json<DeadLetterPage>('api/dead-letters?stream=walking');
    expect(deadLetters.map(({ id, origin }) => [id, origin?.key])).toEqual([['1-0', undefined], ['2-0', 'walking']]); // prettier-ignore
    const change = (body: object): Promise<DeadLetterChanged> =>
      console.change('api/dead-letters/delete', { stream: 'walking', ...body });
    expect(await change({ ids: ['1-0'], dryRun: true })).toMatchObject({ changed: 0, skipped: 1 });
    expect(await change({ ids: ['1-0'], dryRun: false })).toMatchObject({ changed: 0, skipped: 1 });
    expect(await change({ dryRun: true })).toMatchObject({ changed: 1, skipped: 1 });
    expect(await change({ dryRun: false })).toMatchObject({ changed: 1, skipped: 1 });
    expect((await streams.redis.xrange('walking.dead', '-', '+')).map(([id]) => id)).toEqual(['1-0']);
  });
});

describe('the health of a process', () => {
  const loopsOf = ({ parts }: HealthUpdate) => parts.flatMap(({ loops }) => loops);

  it('has the loops of the streams that are shown, and no word on the others', async () => {
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '$', 'MKSTREAM');
    const handler = new ServerRedisStreams({ connection: streams.url, group: 'workers', blockTimeout: 500 });
    // Two of them in one loop.
    for (const stream of ['orders', 'payments']) handler.addHandler(stream, async () => undefined, true);
    handler.addHandler('secrets', async () => undefined, true, { concurrency: 2 });
    await using all = await start({ health: { server: handler } });
    await using some = await start({ health: { server: handler }, streams: ['orders'] });
    await using none = await start({ health: { server: handler }, streams: (key) => key === 'others' });
    await handler.listen(() => undefined);
    try {
      await streams.redis.del('payments');
      await streams.redis.set('payments', 'no stream');
      await using viewer = await all.watch({ page: 'health' });
      const whole = await viewer.until('a stream has failed', (update) =>
        loopsOf(update).some(({ problem }) => problem?.includes('payments')),
      );
      expect(loopsOf(whole).map((loop) => loop.streams)).toEqual([['orders', 'payments'], ['secrets']]);
      await using viewerOfSome = await some.watch({ page: 'health' });
      const part = await viewerOfSome.until('there is an update', () => true);
      expect(loopsOf(part)).toMatchObject([{ streams: ['orders'], group: 'workers', pending: 0, lag: 0 }]);
      expect(JSON.stringify(part)).not.toMatch(/payments|secrets/);
      await using viewerOfNone = await none.watch({ page: 'health' });
      const empty = await viewerOfNone.until('there is an update', () => true);
      expect(empty.parts).toMatchObject([{ name: 'server', loops: [] }]);
    } finally {
      await handler.close();
    }
  });
});
