import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions, WritePacket } from '@nestjs/microservices';
import { firstValueFrom, lastValueFrom } from 'rxjs';

import {
  CallbackError,
  ClientRedisStreams,
  RedisStreamer,
  RedisStreamsContext,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
  streamCatalog,
} from '../../lib/index.js';
import type { RedisStreamsLogger, ServerRedisStreamsOptions, Sharder } from '../../lib/index.js';
import { moduleOf, onBatch, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

const unhandled: unknown[] = [];
const note = (reason: unknown): unknown => unhandled.push(reason);
beforeEach(() => void process.on('unhandledRejection', note));
afterEach(async () => {
  await new Promise(setImmediate);
  process.off('unhandledRejection', note);
  // Outside of Jest, each of them would have ended the process.
  expect(unhandled.splice(0)).toEqual([]);
});

const MISTAKE = 'a mistake of the application';

/** The ways in which a function may fail. */
const WAYS: Array<[way: string, fail: () => unknown]> = [
  [
    'throws',
    () => {
      throw new Error(MISTAKE);
    },
  ],
  ['returns a promise that rejects', () => Promise.reject(new Error(MISTAKE))],
];

const ONCE_MORE = { retry: { attempts: 2, delay: 10 } } as const;

describe.each(WAYS)('a function of the options that %s', (_, fail) => {
  it('retry.unless: the message is retried, and the failure is reported', async () => {
    const pattern = uniqueName('unless');
    let handled = 0;
    const { log, server } = await nest.serve(
      onEvent(pattern, () => {
        handled += 1;
        if (handled === 1) throw new Error('not yet');
      }),
      { retry: { delay: 10, unless: fail as () => boolean } },
    );
    const errors: unknown[] = [];
    server.on('error', (error) => void errors.push(error));
    await nest.emit(pattern, 1);
    await until('it is handled again', () => handled === 2);
    await nest.untilSettled(pattern);

    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
    const failure = errors.find((error) => error instanceof CallbackError);
    expect(failure).toMatchObject({ code: 'ERR_CALLBACK', callback: 'retry.unless' });
    expect(log.errors.filter((line) => line.startsWith('retry.unless failed: '))).toHaveLength(1);
  });

  it('onDeadLetter: every dead letter is stored and acknowledged, and the failure is reported', async () => {
    const pattern = uniqueName('on-dead');
    const { log, server } = await nest.serve(
      onEvent(pattern, () => {
        throw new Error('never');
      }),
      { retry: false, onDeadLetter: fail as () => void },
    );
    const errors: string[] = [];
    server.on('error', ({ message }) => void errors.push(message));
    for (const data of [1, 2, 3]) await nest.emit(pattern, data);
    await until('all are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 3);
    await nest.untilSettled(pattern);

    await until('all are reported', () => errors.filter((text) => text.startsWith('onDeadLetter failed')).length === 3);
    expect(log.errors.filter((line) => line.includes(MISTAKE))).toHaveLength(3);
  });

  it('a listener of an event: the message is settled, other listeners are called, and the failure is logged', async () => {
    const pattern = uniqueName('listener');
    const called: string[] = [];
    const { log, server } = await nest.serve(
      onEvent(pattern, () => {
        throw new Error('never');
      }),
      ONCE_MORE,
    );
    for (const event of ['error', 'retry', 'deadLetter'] as const) {
      server.on(event, fail as () => void);
      server.on(event, () => void called.push(event));
    }
    await nest.emit(pattern, 1);
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);

    expect(called).toEqual(['error', 'retry', 'error', 'deadLetter']);
    await until('all are logged', () => log.errors.filter((line) => line.startsWith('A listener of')).length === 4);
  });

  it('the logger: messages are still handled, retried and dead-lettered', async () => {
    const [good, bad] = [uniqueName('good'), uniqueName('bad')];
    let handled = 0;
    const logger: RedisStreamsLogger = { error: fail, warn: fail, log: fail, debug: fail };
    await nest.serve(
      [
        onEvent(good, () => (handled += 1)),
        onEvent(bad, () => {
          throw new Error('never');
        }),
      ],
      { ...ONCE_MORE, logger },
    );
    for (const pattern of [bad, good]) await nest.emit(pattern, 1);

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${bad}.dead`)) === 1);
    await until('the other one is handled', () => handled === 1);
  });

  it('deserializer: its message alone becomes a dead letter, in batches as well', async () => {
    const [single, batch] = [uniqueName('single'), uniqueName('batch')];
    const deserializer = {
      deserialize: (payload: Buffer): unknown => (payload.toString() === '2' ? fail() : Number(payload)),
    };
    const seen: Record<string, number[]> = { [single]: [], [batch]: [] };
    await nest.serve(
      [
        onEvent(single, (data: number) => seen[single]?.push(data)),
        onBatch(batch, (payloads: number[]) => seen[batch]?.push(...payloads), { batch: { size: 3 } }),
      ],
      { deserializer },
    );
    for (const pattern of [single, batch]) {
      for (const data of [1, 2, 3]) await nest.emit(pattern, data);
    }

    for (const pattern of [single, batch]) {
      await until('the others are handled', () => seen[pattern]?.length === 2);
      await nest.untilSettled(pattern);
      expect(seen[pattern]).toEqual([1, 3]);
      const dead = await nest.entries(`${pattern}.dead`);
      expect(dead.map(({ fields }) => fields['msg'])).toEqual(['2']);
      expect(dead[0]?.fields['h:dead-letter-reason']).toContain('cannot be deserialized');
    }
  });

  it('emitBatch() without an array fails by its Observable, also through a catalog', async () => {
    const client = nest.client();
    const refusal = { code: 'ERR_INVALID_OPTION', message: expect.stringContaining('messages must be an array') };
    for (const each of [client, streamCatalog<{ clicks: string }>().client(client)]) {
      const sending = each.emitBatch('clicks', 'text' as never);
      await expect(lastValueFrom(sending)).rejects.toMatchObject(refusal);
    }
  });

  it('serializer: its message alone fails, with the error of the serializer', async () => {
    const pattern = uniqueName('serialized');
    const serializer = { serialize: (data: unknown): unknown => (data === 2 ? fail() : String(data)) };
    const client = nest.client({ serializer });
    const sends = [1, 2, 3].map((data) => firstValueFrom(client.emit(pattern, data)));
    const outcomes = await Promise.allSettled(sends);

    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    await expect(sends[1]).rejects.toThrow(MISTAKE);
    await expect(lastValueFrom(client.emitBatch(pattern, [4, 2, 5]))).rejects.toMatchObject({ code: 'ERR_BATCH_SEND' });
    await expect(lastValueFrom(client.send(pattern, 2))).rejects.toThrow(MISTAKE);
    expect((await nest.entries(pattern)).map(({ fields }) => fields['msg'])).toEqual(['1', '3', '4', '5']);
  });

  it('serializer of a reply: its request alone is answered with an error', async () => {
    const pattern = uniqueName('replies');
    const serializer = { serialize: (data: unknown): unknown => (data === 2 ? fail() : String(data)) };
    await nest.serve(
      onRequest(pattern, (data: number) => data),
      { serializer },
    );
    const client = nest.client();
    const answers = await Promise.allSettled([1, 2, 3].map((data) => lastValueFrom(client.send(pattern, data))));

    expect(answers.map((answer) => (answer.status === 'fulfilled' ? answer.value : answer.reason))).toEqual([
      1,
      { status: 'error', message: 'Internal server error' },
      3,
    ]);
    await nest.untilSettled(pattern);
  });

  it('deserializer of a client: the request whose reply it refuses fails alone', async () => {
    const pattern = uniqueName('answers');
    await nest.serve(onRequest(pattern, (data: number) => data));
    const deserializer = {
      deserialize: (payload: Buffer): unknown => (payload.toString() === '2' ? fail() : Number(payload)),
    };
    const client = nest.client({ deserializer });
    const answers = await Promise.allSettled([1, 2, 3].map((data) => lastValueFrom(client.send(pattern, data))));

    expect(answers.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(await lastValueFrom(client.send(pattern, 4))).toBe(4);
  });

  it('filter of redrive(): the call fails with its error, and nothing is put back', async () => {
    const pattern = uniqueName('redriven');
    await nest.serve(
      onEvent(pattern, () => {
        throw new Error('never');
      }),
      { retry: false },
    );
    await nest.emit(pattern, 1);
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    const streamer = await RedisStreamer.connect(nest.url);
    const manager = await streamer.createManager();

    await expect(manager.redrive(`${pattern}.dead`, { filter: fail as () => boolean })).rejects.toThrow(MISTAKE);
    const no = (): Promise<boolean> => Promise.resolve(false);
    expect(await manager.redrive(`${pattern}.dead`, { filter: no })).toEqual({ redriven: 0, skipped: 1 });
    await streamer.disconnect();
  });
});

it('retry.unless that returns a promise does not make every failure a dead letter', async () => {
  const pattern = uniqueName('async-unless');
  let handled = 0;
  const { log } = await nest.serve(
    onEvent(pattern, () => {
      handled += 1;
      if (handled === 1) throw new Error('not yet');
    }),
    { retry: { delay: 10, unless: (() => Promise.resolve(false)) as unknown as () => boolean } },
  );
  await nest.emit(pattern, 1);
  await until('it is handled again', () => handled === 2);
  expect(log.errors.join()).toMatch(/retry\.unless must return true or false, not a promise/);
});

it('an onDeadLetter that never ends holds up neither messages nor the end of the server', async () => {
  const pattern = uniqueName('hanging');
  const { app } = await nest.serve(
    onEvent(pattern, () => {
      throw new Error('never');
    }),
    { retry: false, onDeadLetter: () => new Promise<void>(() => undefined) },
  );
  for (const data of [1, 2]) await nest.emit(pattern, data);
  await until('both are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 2);
  await nest.untilSettled(pattern);
  await app.close();
});

it('a serializer may return a promise of another realm', async () => {
  const pattern = uniqueName('realm');
  const serialize = (): unknown => runInNewContext("Promise.resolve('text')");
  await firstValueFrom(nest.client({ serializer: { serialize } }).emit(pattern, 1));
  expect((await nest.entries(pattern)).map(({ fields }) => fields['msg'])).toEqual(['text']);
});

describe('a sharder', () => {
  const failing = (shardOf: () => unknown): Sharder => ({
    shards: 3,
    shardOf: (_stream, key) => (key === 'bad' ? (shardOf() as number) : 1),
  });

  it.each<[what: string, shardOf: () => unknown, error: object]>([
    [
      'throws',
      () => {
        throw new TypeError(MISTAKE);
      },
      { code: 'ERR_CALLBACK', message: `sharder.shardOf() failed: ${MISTAKE}`, callback: 'sharder.shardOf()' },
    ],
    ['returns NaN', () => Number.NaN, { code: 'ERR_INVALID_OPTION', option: 'sharder.shardOf()' }],
    ['returns a number out of range', () => 3, { code: 'ERR_INVALID_OPTION', option: 'sharder.shardOf()', value: 3 }],
    ['returns a negative number', () => -1, { code: 'ERR_INVALID_OPTION', option: 'sharder.shardOf()' }],
    ['returns nothing', () => undefined, { code: 'ERR_INVALID_OPTION', option: 'sharder.shardOf()' }],
    ['returns a promise', () => Promise.resolve(1), { code: 'ERR_INVALID_OPTION', option: 'sharder.shardOf()' }],
  ])('that %s fails its message alone', async (_, shardOf, error) => {
    const pattern = uniqueName('sharded');
    for (const sharder of [failing(shardOf), () => failing(shardOf)]) {
      const client = nest.client({ sharder });
      const keys = ['good', 'bad', 'fine'];
      const sends = keys.map((key) =>
        firstValueFrom(client.emit(pattern, new RedisStreamsRecordBuilder(key).setKey(key).build())),
      );
      const outcomes = await Promise.allSettled(sends);
      expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      await expect(sends[1]).rejects.toMatchObject(error);
    }
    expect(await nest.redis.xlen(`${pattern}:1`)).toBe(4);
  });

  it('that throws is reported to the caller of enqueue(), and by nothing else', async () => {
    const stream = uniqueName('enqueued');
    const streamer = await RedisStreamer.connect(nest.url);
    const sharder = failing(() => {
      throw new TypeError(MISTAKE);
    });
    const producer = await streamer.createProducer(stream, { sharder });
    producer.enqueue('a', { key: 'good' });
    expect(() => producer.enqueue('b', { key: 'bad' })).toThrow(CallbackError);
    await producer.flush();
    expect(await nest.redis.xlen(`${stream}:1`)).toBe(1);
    await streamer.disconnect();
  });

  it('whose factory throws fails the creation of the producer, and names the option', async () => {
    const make = (): Sharder => {
      throw new TypeError(MISTAKE);
    };
    expect(() => nest.client({ sharder: make })).toThrow(`sharder failed: ${MISTAKE}`);
    const streamer = await RedisStreamer.connect(nest.url);
    await expect(streamer.createProducer('orders', { sharder: make })).rejects.toThrow(CallbackError);
    await streamer.disconnect();
  });
});

/** A microservice whose server is of the given class. */
async function serveWith<S extends ServerRedisStreams>(
  Class: new (options: ServerRedisStreamsOptions) => S,
  controllers: Type | Type[],
  options: Partial<ServerRedisStreamsOptions> = ONCE_MORE,
): Promise<{ server: S; log: LogLines }> {
  const log = new LogLines();
  const server = new Class({
    connection: nest.url,
    group: GROUP,
    autoCommitInterval: 10,
    blockTimeout: 1_000,
    logger: log,
    ...options,
  });
  const module = moduleOf({ controllers: [controllers].flat() });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(module, { strategy: server, ...QUIET });
  nest.closeLater(app);
  await app.listen();
  return { server, log };
}

const isBad = (context: RedisStreamsContext): boolean => context.getMessage().text() === '"bad"';

/** Overrides that fail for one message. */
const OVERRIDES: Array<[method: string, make: (fail: () => unknown) => new (...args: never[]) => ServerRedisStreams]> =
  [
    [
      'createContext',
      (fail) =>
        class extends ServerRedisStreams {
          override createContext(...args: ConstructorParameters<typeof RedisStreamsContext>): RedisStreamsContext {
            const context = super.createContext(...args);
            if (isBad(context)) fail();
            return context;
          }
        },
    ],
    [
      'handleMessage',
      (fail) =>
        class extends ServerRedisStreams {
          override handleMessage(context: RedisStreamsContext): Promise<void> {
            return isBad(context) ? (fail() as Promise<void>) : super.handleMessage(context);
          }
        },
    ],
    [
      'handleEvent',
      (fail) =>
        class extends ServerRedisStreams {
          override handleEvent(...args: Parameters<ServerRedisStreams['handleEvent']>): Promise<void> {
            return isBad(args[2]) ? (fail() as Promise<void>) : super.handleEvent(...args);
          }
        },
    ],
  ];

type ServerClass = new (options: ServerRedisStreamsOptions) => ServerRedisStreams;

describe.each(OVERRIDES)('an override of %s that fails', (method, make) => {
  const ways = method === 'createContext' ? WAYS.slice(0, 1) : WAYS;

  it.each(ways)(
    'makes its message fail when it %s: a retry, then a dead letter, and others are handled',
    async (_, fail) => {
      const pattern = uniqueName('override');
      const seen: string[] = [];
      const { log, server } = await serveWith(
        make(fail) as ServerClass,
        onEvent(pattern, (data: string) => seen.push(data)),
      );
      const events: string[] = [];
      server.on('retry', () => void events.push('retry'));
      server.on('deadLetter', ({ error }) => void events.push((error as Error).message));
      for (const data of ['good', 'bad', 'fine']) await nest.emit(pattern, data);

      await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
      await nest.untilSettled(pattern);
      expect(seen).toEqual(['good', 'fine']);
      expect(events).toEqual(['retry', MISTAKE]);
      expect(log.errors.filter((line) => line.includes(MISTAKE))).toHaveLength(2);
    },
  );
});

it.each(OVERRIDES.slice(0, 2))('a request for which %s fails is answered with an error', async (_, make) => {
  const pattern = uniqueName('request');
  const fail = WAYS[0]?.[1] as () => unknown;
  const { log } = await serveWith(
    make(fail) as ServerClass,
    onRequest(pattern, (data: string) => data),
  );
  const client = nest.client();

  await expect(lastValueFrom(client.send(pattern, 'bad'))).rejects.toEqual({
    status: 'error',
    message: 'Internal server error',
  });
  expect(await lastValueFrom(client.send(pattern, 'good'))).toBe('good');
  await nest.untilSettled(pattern);
  expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  expect(log.errors.join()).toContain(MISTAKE);
});

it('a context that cannot be made fails alone in its batch', async () => {
  const pattern = uniqueName('batch');
  const seen: string[] = [];
  const Class = OVERRIDES[0]?.[1](WAYS[0]?.[1] as () => unknown) as ServerClass;
  for (const data of ['good', 'bad', 'fine']) await nest.emit(pattern, data);
  await serveWith(
    Class,
    onBatch(pattern, (payloads: string[]) => seen.push(...payloads), { batch: { size: 3, timeout: 1_000 } }),
  );

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  await nest.untilSettled(pattern);
  expect(seen).toEqual(['good', 'fine']);
});

it.each(WAYS)(
  'an override of handleBatch that %s makes its messages fail, except those that are settled',
  async (_, fail) => {
    class BrokenServer extends ServerRedisStreams {
      override handleBatch(contexts: readonly RedisStreamsContext[]): Promise<void> {
        contexts.filter((context) => !isBad(context)).forEach((context) => context.ack());
        return fail() as Promise<void>;
      }
    }
    const pattern = uniqueName('broken-batch');
    for (const data of ['good', 'bad', 'fine']) await nest.emit(pattern, data);
    await serveWith(
      BrokenServer,
      onBatch(pattern, () => undefined, { batch: { size: 3, timeout: 1_000 } }),
    );

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    await nest.untilSettled(pattern);
    expect((await nest.entries(`${pattern}.dead`)).map(({ fields }) => fields['msg'])).toEqual(['"bad"']);
  },
);

describe('the hooks of instrumentation (Nest 12)', () => {
  type Hook = (transportId: unknown, context: RedisStreamsContext, done: () => Promise<unknown>) => unknown;
  const hook = (
    server: ServerRedisStreams,
    hooks: { onProcessingStartHook?: Hook; onProcessingEndHook?: Hook },
  ): unknown => Object.assign(server, hooks);

  it.each(WAYS)(
    'one before the handler that %s makes the message fail, and the handler is not run',
    async (_, fail) => {
      const [event, request] = [uniqueName('event'), uniqueName('request')];
      const seen: unknown[] = [];
      const { server, log } = await serveWith(ServerRedisStreams, [
        onEvent(event, (data) => seen.push(data)),
        onRequest(request, (data) => data),
      ]);
      hook(server, { onProcessingStartHook: (_transport, context, done) => (isBad(context) ? fail() : done()) });
      for (const data of ['good', 'bad', 'fine']) await nest.emit(event, data);

      await until('it is a dead letter', async () => (await nest.redis.xlen(`${event}.dead`)) === 1);
      await nest.untilSettled(event);
      expect(seen).toEqual(['good', 'fine']);
      const [dead] = await nest.entries(`${event}.dead`);
      expect(dead?.fields['h:dead-letter-error-message']).toBe(`onProcessingStartHook failed: ${MISTAKE}`);
      await expect(lastValueFrom(nest.client().send(request, 'bad'))).rejects.toEqual({
        status: 'error',
        message: 'Internal server error',
      });
      const ofRequest = log.errors.filter((line) => line.includes(`of '${request}'`));
      expect(ofRequest).toEqual([expect.stringContaining(`onProcessingStartHook failed: ${MISTAKE}`)]);
    },
  );

  it.each(WAYS)('one that %s after the handler has begun changes nothing, and is reported', async (_, fail) => {
    const pattern = uniqueName('after');
    const seen: unknown[] = [];
    const { log, server } = await serveWith(
      ServerRedisStreams,
      onEvent(pattern, (data) => seen.push(data)),
    );
    const late: Hook = (_transport, _context, done) => {
      void done();
      return fail();
    };
    hook(server, { onProcessingStartHook: late, onProcessingEndHook: fail });
    for (const data of [1, 2]) await nest.emit(pattern, data);

    await nest.untilSettled(pattern);
    await until('all are reported', () => log.errors.length === 4);
    expect(seen).toEqual([1, 2]);
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  });

  it('one that runs the work twice runs the handler once', async () => {
    const pattern = uniqueName('twice');
    const seen: unknown[] = [];
    const { server } = await serveWith(
      ServerRedisStreams,
      onEvent(pattern, (data) => seen.push(data)),
    );
    hook(server, {
      onProcessingStartHook: async (_transport, _context, done) => {
        await Promise.all([done(), done()]);
        await done();
      },
    });
    await nest.emit(pattern, 1);
    await until('it is handled', () => seen.length > 0);
    await nest.untilSettled(pattern);
    expect(seen).toEqual([1]);
  });
});

it.each(WAYS)('a pattern factory that %s fails the start; the next start binds its handler', async (_, fail) => {
  const pattern = uniqueName('factory');
  const seen: unknown[] = [];
  const server = new ServerRedisStreams({ connection: nest.url, group: GROUP, logger: new LogLines() });
  let isBroken = true;
  server.addHandler(
    () => (isBroken ? fail() : pattern),
    (data: unknown) => {
      seen.push(data);
      return Promise.resolve();
    },
    true,
  );
  nest.closeLater(server);
  const listen = (): Promise<unknown> => new Promise((resolve) => void server.listen(resolve));
  expect(await listen()).toEqual(new Error(MISTAKE));
  isBroken = false;
  expect(await listen()).toBeUndefined();
  await nest.emit(pattern, 1);
  await until('it is handled', () => seen.length === 1);
});

it('a callback of a client whose override fails does not end the replies to others', async () => {
  const pattern = uniqueName('callback');
  await nest.serve(onRequest(pattern, (data: number) => data));
  class OddClient extends ClientRedisStreams {
    override publish(
      packet: Parameters<ClientRedisStreams['publish']>[0],
      callback: (packet: WritePacket) => void,
    ): () => void {
      return super.publish(packet, (reply) => {
        callback(reply);
        throw new Error(MISTAKE);
      });
    }
  }
  const log = new LogLines();
  const client = new OddClient({ connection: nest.url, logger: log });
  nest.closeLater(client);
  const answers = await Promise.all([1, 2, 3].map((data) => lastValueFrom(client.send<number>(pattern, data))));

  expect(answers).toEqual([1, 2, 3]);
  expect(log.errors.filter((line) => line.includes(MISTAKE)).length).toBeGreaterThanOrEqual(3);
  expect(log.errors.filter((line) => line.includes('no longer be read'))).toEqual([]);
});
