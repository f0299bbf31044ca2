import { describe, expect, it } from '@jest/globals';
import type { Type } from '@nestjs/common';

import { ServerRedisStreams } from '../../lib/index.js';
import type { HandlerExtras, RedisStreamsContext, ServerRedisStreamsOptions } from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onEvent } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { numbers } from '../support/streams.js';
import { stays, until } from '../support/until.js';

const nest = useNest();

async function emitNumbers(pattern: string, first: number, last: number): Promise<void> {
  for (const n of numbers(first, last)) await nest.emit(pattern, n);
}

/** A controller that notes pattern, stream and payload of each message. */
function noting(pattern: string, seen: string[], extras: HandlerExtras = {}): Type {
  return onEvent(
    pattern,
    (n: string, context: RedisStreamsContext) => void seen.push(`${context.getPattern()} ${context.getStream()} ${n}`),
    extras,
  );
}

describe('addStream()', () => {
  it('the handlers of a pattern read a further stream from its beginning, and the context tells both', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const seen: string[] = [];
    await emitNumbers(stream, 0, 1);
    const { server } = await nest.serve([noting(pattern, seen), noting(pattern, seen, { mode: 'real-time' })]);
    await server.addStream(pattern, stream);
    await emitNumbers(stream, 2, 2);
    await emitNumbers(pattern, 7, 7);
    // A handler without a group begins at the end.
    await until('all are handled', () => seen.length === 6);
    expect([...seen].sort()).toEqual(
      [
        ...['0', '1', '2', '2'].map((n) => `${pattern} ${stream} ${n}`),
        ...['7', '7'].map((n) => `${pattern} ${pattern} ${n}`),
      ].sort(),
    );
    await nest.untilSettled(stream);
    expect((await server.health()).isHealthy).toBe(true);
  });

  it('a message of an added stream that fails becomes a dead letter of that stream', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const { server } = await nest.serve(
      onEvent(
        pattern,
        () => {
          throw new Error('no');
        },
        { retry: { attempts: 1 } },
      ),
    );
    await server.addStream(pattern, stream);
    await nest.emit(stream, 1);
    await until('there is a dead letter', async () => (await nest.redis.xlen(`${stream}.dead`)) === 1);
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
    await nest.untilSettled(stream);
  });

  it('before listen() the stream is read from the start, and it outlives close()', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const seen: string[] = [];
    const { server } = await nest.serve({
      controllers: [noting(pattern, seen)],
      configure: (app) =>
        void (app as unknown as { serverInstance: ServerRedisStreams }).serverInstance.addStream(pattern, stream),
    });
    await nest.emit(stream, 1);
    await until('it is handled', () => seen.length === 1);
    await server.close();
    await server.listen((error) => expect(error).toBeUndefined());
    await nest.emit(stream, 2);
    await until('it is handled', () => seen.length === 2);
    expect(seen).toEqual(['1', '2'].map((n) => `${pattern} ${stream} ${n}`));
  });

  it('a paused pattern reads nothing of a stream that is added', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const seen: string[] = [];
    await nest.emit(stream, 1);
    const { server } = await nest.serve(noting(pattern, seen));
    await server.pause(pattern);
    await server.addStream(pattern, stream);
    await stays('nothing is read', async () => seen.length === 0 && (await nest.pending(stream)) === 0);
    await server.resume(pattern);
    await until('it is handled', () => seen.length === 1);
  });

  const refusals: ReadonlyArray<
    [string, Record<string, HandlerExtras>, string, string, Partial<ServerRedisStreamsOptions>]
  > = [
    ['a pattern without a handler', { a: {} }, 'unknown', 'x', {}],
    ['a stream that the pattern has itself', { a: {} }, 'a', 'a', {}],
    ['the stream of another handler of the group', { a: {}, b: { concurrency: 1 } }, 'a', 'b', {}],
    ['the dead letters of the pattern', { a: {} }, 'a', 'a.dead', {}],
    ['a stream whose dead letters the pattern reads', { 'a.dead': {} }, 'a.dead', 'a', {}],
    ['the dead letters of another handler', { a: {}, b: { deadLetter: { stream: 'failed' } } }, 'a', 'failed', {}],
    ['a shard of a stream that is read', { a: {} }, 'a', 'a:3', { shards: true }],
    ['the stream of which a shard is read', { 'a:3': {} }, 'a:3', 'a', { shards: true }],
    ['no name', { a: {} }, 'a', '', {}],
  ];

  it.each(refusals)(
    'refuses %s by name, and reads what it read before',
    async (_, handlers, pattern, stream, options) => {
      const seen: string[] = [];
      const { server } = await nest.serve(
        Object.entries(handlers).map(([name, extras]) => noting(name, seen, extras)),
        options,
      );
      const option = pattern === 'unknown' ? 'pattern' : 'streamKey';
      await expect(server.addStream(pattern, stream)).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option });
      const [first] = Object.keys(handlers) as [string];
      await nest.emit(first, 1);
      await until('it is handled', () => seen.length === 1);
      await server.close();
      await server.listen((error) => expect(error).toBeUndefined());
      await nest.redis.del(first);
    },
  );

  it('refuses a stream twice, and one that another pattern was given; listen() refuses what it finds out later', async () => {
    const [a, b, stream] = [uniqueName('a'), uniqueName('b'), uniqueName('tenant')];
    const { server } = await nest.serve([onEvent(a, () => undefined), onEvent(b, () => undefined)]);
    await server.addStream(a, stream);
    const refusal = { code: 'ERR_INVALID_OPTION', option: 'streamKey', value: stream };
    await expect(server.addStream(a, stream)).rejects.toMatchObject(refusal);
    await expect(server.addStream(b, stream)).rejects.toMatchObject(refusal);
    await expect(server.removeStream(b, stream)).rejects.toMatchObject(refusal);
    await server.removeStream(a, stream);
    await server.addStream(b, stream);

    const early = new ServerRedisStreams({ connection: nest.url, group: GROUP });
    early.addHandler(a, async () => undefined as never, true);
    await early.addStream('unknown', stream);
    const failed = withResolvers<unknown>();
    await early.listen(failed.resolve);
    expect(await failed.promise).toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'pattern', value: 'unknown' });
    await early.close();
  });

  it('a pattern whose stream has another name may be given the stream with its own name', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('renamed')];
    const seen: string[] = [];
    await nest.emit(pattern, 1);
    await nest.emit(stream, 2);
    const { server } = await nest.serve(noting(pattern, seen), { streams: { [pattern]: stream } });
    await expect(server.addStream(pattern, stream)).rejects.toMatchObject({ option: 'streamKey', value: stream });
    await server.addStream(pattern, pattern);
    await until('both are handled', () => seen.length === 2);
    expect([...seen].sort()).toEqual([`${pattern} ${pattern} 1`, `${pattern} ${stream} 2`].sort());
  });

  it('a stream that cannot be opened is not added', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const seen: string[] = [];
    const { server } = await nest.serve(noting(pattern, seen));
    await nest.redis.set(stream, 'a string');
    await expect(server.addStream(pattern, stream)).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE' });
    expect((await server.health()).isHealthy).toBe(true);
    await nest.redis.del(stream);
    await server.addStream(pattern, stream);
    await nest.emit(stream, 1);
    await until('it is handled', () => seen.length === 1);
  });
});

describe('removeStream()', () => {
  it('gives back what no handler has, and lets the handler that runs end, with its acknowledgement', async () => {
    const [pattern, stream] = [uniqueName('orders'), uniqueName('tenant')];
    const seen: string[] = [];
    const gate = withResolvers<void>();
    const { server } = await nest.serve(
      onEvent(
        pattern,
        async (n: string) => {
          seen.push(n);
          await gate.promise;
        },
        { concurrency: 1 },
      ),
    );
    await server.addStream(pattern, stream);
    await emitNumbers(stream, 0, 4);
    await until('all were read', async () => (await nest.pending(stream)) === 5);
    await server.removeStream(pattern, stream);
    gate.resolve();
    await until('it is acknowledged', async () => (await nest.pending(stream)) === 4);
    await emitNumbers(stream, 5, 5);
    await stays('only the first is handled', () => seen.join() === '0');
    const rows = (await nest.redis.xpending(stream, GROUP, '-', '+', 10)) as Array<[string, string, number, number]>;
    expect(rows.map(([, , , count]) => count)).toEqual([0, 0, 0, 0]);

    await server.addStream(pattern, stream);
    await until('all are handled', () => seen.length === 6);
    expect(seen).toEqual(numbers(0, 5));
    await nest.untilSettled(stream);
  });

  it('a message that fails after its stream was given to another pattern is a dead letter by its own rules', async () => {
    const [a, b, stream] = [uniqueName('a'), uniqueName('b'), uniqueName('tenant')];
    const gate = withResolvers<void>();
    let isRunning = false;
    const failing = onEvent(
      a,
      async () => {
        isRunning = true;
        await gate.promise;
        throw new Error('no');
      },
      { retry: { attempts: 1 }, deadLetter: { stream: `${a}-failed` } },
    );
    const { server } = await nest.serve([failing, onEvent(b, () => undefined)]);
    await server.addStream(a, stream);
    await nest.emit(stream, 1);
    await until('it runs', () => isRunning);
    await server.removeStream(a, stream);
    await server.addStream(b, stream);
    gate.resolve();
    await until('there is a dead letter', async () => (await nest.redis.xlen(`${a}-failed`)) === 1);
    expect(await nest.redis.exists(`${stream}.dead`)).toBe(0);
    await nest.untilSettled(stream);
  });
});
