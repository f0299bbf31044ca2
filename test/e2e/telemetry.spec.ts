import { setImmediate } from 'node:timers/promises';

import { describe, expect, it } from '@jest/globals';
import { NEVER, firstValueFrom, lastValueFrom, of, toArray } from 'rxjs';

import {
  KeyHashSharder,
  RedisStreamer,
  RedisStreamsDeadLetterException,
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
  RedisStreamsRetryException,
  getRedisStreamsToken,
} from '../../lib/index.js';
import type { ClientRedisStreams, RedisStreamsContext, Telemetry } from '../../lib/index.js';
import { NestFactory } from '@nestjs/core';
import { moduleOf, onBatch, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { RecordingTelemetry } from '../support/recording-telemetry.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();
const SETTLED = { settlement: 'ack', delay: undefined, reason: undefined, error: undefined, isExpired: false };

describe('telemetry', () => {
  it('follows an event from emit to the end of its handler, which runs in the context of the operation', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    const client = nest.client({ telemetry });
    const seen: unknown[] = [];
    const handle = async (_: never, context: RedisStreamsContext): Promise<void> => {
      seen.push([telemetry.active, context.getHeader('trace'), context.getHeader('own')]);
      await firstValueFrom(client.emit(`${pattern}.next`, 1));
    };
    await nest.serve(onEvent(pattern, handle), { telemetry: [telemetry], consumer: 'one' });
    const record = new RedisStreamsRecordBuilder('ünï').setHeader('own', 'kept').build();
    const { id } = await firstValueFrom(client.emit(pattern, record));
    await until('it is handled', () => telemetry.processed[0]?.outcomes !== undefined);
    expect(seen).toEqual([[`process ${pattern}`, `send ${pattern}`, 'kept']]);
    const message = { kind: 'message', shardId: undefined, isDelayed: false };
    expect(telemetry.sent).toEqual([
      {
        ...message,
        streamKey: pattern,
        size: 7,
        headers: { own: 'kept', trace: `send ${pattern}` },
        parent: undefined,
        outcome: { id },
      },
      {
        ...message,
        streamKey: `${pattern}.next`,
        size: 1,
        headers: { trace: `send ${pattern}.next` },
        parent: `process ${pattern}`,
        outcome: { id: expect.any(String) },
      },
    ]);
    expect(telemetry.processed).toEqual([
      {
        kind: 'event',
        pattern,
        streamKey: pattern,
        shardId: undefined,
        group: GROUP,
        consumer: 'one',
        isBatch: false,
        ids: [id],
        outcomes: [SETTLED],
      },
    ]);
  });

  it.each<[string, unknown, object]>([
    ['a retry', new Error('no'), { settlement: 'retry', delay: 600_000, error: new Error('no') }],
    ['a retry that is asked for', new RedisStreamsRetryException(9_000), { settlement: 'retry', delay: 9_000 }],
    ['a dead letter', new RedisStreamsDeadLetterException('bad'), { settlement: 'dead-letter', reason: 'bad' }],
  ])('is called for %s', async (_, thrown, outcome) => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    const handle = (): never => {
      throw thrown as Error;
    };
    const retry = { delay: 600_000, factor: 1, maxDelay: 600_000, jitter: 0 };
    await nest.serve(onEvent(pattern, handle), { telemetry, retry });
    await nest.emit(pattern, 1);
    await until('it has failed', () => telemetry.processed[0]?.outcomes !== undefined);
    expect(telemetry.processed[0]?.outcomes).toEqual([{ ...SETTLED, error: thrown, ...outcome }]);
    if ((outcome as { settlement: string }).settlement !== 'dead-letter') return;
    await until('it is a dead letter', () => telemetry.deadLetters.length === 1);
    expect(telemetry.deadLetters).toEqual([
      expect.objectContaining({ pattern, group: GROUP, deadLetterStream: `${pattern}.dead`, reason: 'bad' }),
    ]);
  });

  it('ends with the server for a handler that does not, whose message stays pending', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    const { app } = await nest.serve(
      onEvent(pattern, () => new Promise(() => undefined)),
      {
        telemetry,
        shutdownTimeout: 100,
      },
    );
    await nest.emit(pattern, 1);
    await until('it runs', () => telemetry.processed.length === 1);
    await app.close();
    expect(telemetry.processed[0]?.outcomes).toEqual([{ ...SETTLED, settlement: undefined }]);
    expect(await nest.pending(pattern)).toBe(1);
  });

  it('learns of messages that reach no handler: expired, undecodable', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    await addRaw(nest.redis, pattern, 'msg', '1', 'h:expires-at', '1');
    await addRaw(nest.redis, pattern, 'msg', '{');
    await nest.serve(
      onEvent(pattern, () => undefined),
      { telemetry },
    );
    await until('both are read', () => telemetry.processed.filter(({ outcomes }) => outcomes).length === 2);
    expect(telemetry.processed.map(({ outcomes }) => outcomes?.[0])).toEqual([
      { ...SETTLED, isExpired: true },
      expect.objectContaining({
        settlement: 'dead-letter',
        error: expect.objectContaining({ code: 'ERR_PAYLOAD_DECODE' }),
      }),
    ]);
  });

  it('follows a batch as one operation with an outcome for each message, and manual acknowledgements', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    const handle = (_: never[], [first]: RedisStreamsContext[]): void => first?.ack();
    await nest.serve(onBatch(pattern, handle, { batch: { size: 2, timeout: 10_000 }, ack: 'manual' }), { telemetry });
    const receipts = await firstValueFrom(nest.client().emitBatch(pattern, [1, 2]));
    await until('it is handled', () => telemetry.processed[0]?.outcomes !== undefined);
    expect(telemetry.processed).toEqual([
      expect.objectContaining({
        isBatch: true,
        ids: receipts.map(({ id }) => id),
        outcomes: [SETTLED, { ...SETTLED, settlement: undefined }],
      }),
    ]);
  });

  it('follows a batch that failed, and then each of its messages alone, which have their outcome then', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    const error = new Error('the batch');
    const handle = (numbers: number[]): void => {
      if (numbers.length > 1) throw error;
    };
    const options = { telemetry, retry: false } as const;
    await nest.serve(onBatch(pattern, handle, { batch: { size: 2, timeout: 10_000 } }), options);
    await firstValueFrom(nest.client().emitBatch(pattern, [1, 2]));
    await until('they are handled alone', () => telemetry.processed.filter(({ outcomes }) => outcomes).length === 3);
    const again = { ...SETTLED, settlement: undefined, error, isHandledAlone: true };
    expect(telemetry.processed.map(({ outcomes }) => outcomes)).toEqual([[again, again], [SETTLED], [SETTLED]]);
  });

  it('follows a request: its message, its handler, and its replies, which are given outside of its context', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    const client = nest.client({ telemetry });
    await nest.serve(
      onRequest(pattern, () => of(1, 2, 3)),
      { telemetry },
    );
    const given: unknown[] = [];
    const values = client.send(pattern, 'hi').pipe(toArray());
    await new Promise<void>((resolve) =>
      values.subscribe({ next: () => given.push(telemetry.active), complete: resolve }),
    );
    expect(given).toEqual([undefined]);
    expect(telemetry.requested).toEqual([{ pattern, streamKey: pattern, outcome: {} }]);
    expect(telemetry.sent[0]).toMatchObject({ kind: 'request', streamKey: pattern, parent: `request ${pattern}` });
    const replies = telemetry.sent.slice(1);
    expect(replies.length).toBeGreaterThan(0);
    expect(new Set(replies.map(({ kind, parent }) => `${kind} in ${parent}`))).toEqual(
      new Set([`reply in process ${pattern}`]),
    );
    expect(telemetry.processed).toEqual([expect.objectContaining({ kind: 'request', pattern })]);
    // The stream of replies is read with `next()`, which is no receive of the application.
    expect(telemetry.received).toEqual([]);
  });

  it('ends a request that fails, times out, or is given up', async () => {
    const pattern = uniqueName('telemetry');
    const telemetry = new RecordingTelemetry();
    await nest.serve(
      onRequest(pattern, (what) => {
        if (what === 'fail') throw new Error('no');
        return NEVER;
      }),
      { telemetry },
    );
    const client = nest.client({ telemetry });
    const impatient = nest.client({ telemetry, requestTimeout: 50 });
    await impatient.connect();
    await expect(lastValueFrom(client.send(pattern, 'fail'))).rejects.toBeDefined();
    await expect(lastValueFrom(impatient.send(pattern, 'hang'))).rejects.toMatchObject({ code: 'ERR_REQUEST_TIMEOUT' });
    client.send(pattern, 'hang').subscribe().unsubscribe();
    await expect(lastValueFrom(client.send('', 1))).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
    expect(telemetry.requested.map(({ outcome }) => outcome)).toEqual([
      { error: expect.objectContaining({ status: 'error' }) },
      { error: expect.objectContaining({ code: 'ERR_REQUEST_TIMEOUT' }) },
      { isCancelled: true },
    ]);
    await until('its handler has failed', () => telemetry.processed[0]?.outcomes !== undefined);
    expect(telemetry.processed[0]?.outcomes?.[0]?.error).toBeDefined();
  });

  it('follows the engine: sends of all kinds, shards, delays, failures, and next()', async () => {
    const telemetry = new RecordingTelemetry();
    const key = uniqueName('telemetry');
    const streamer = await RedisStreamer.connect(nest.url, { telemetry });
    nest.closeLater({ close: () => streamer.disconnect() });
    expect([...telemetry.sources]).toEqual([streamer]);
    expect(streamer.server).toEqual({ host: '127.0.0.1', port: expect.any(Number) });
    const producer = await streamer.createGenericProducer({ sharder: new KeyHashSharder(2), maxPayload: 100 });
    producer.on('error', () => undefined);
    const consumer = await streamer.createConsumer(key, {
      mode: 'load-balanced',
      group: 'g',
      autoStreamReset: 'earliest',
      mkStream: true,
    });
    await producer.sendTo(key, 'a', { key: 'k' });
    producer.enqueueTo(key, 'b', { key: 'k' });
    await producer.flush();
    await producer.sendTo(key, 'c', { delay: 60_000, key: 'k' });
    await expect(producer.sendTo(key, 'd'.repeat(101))).rejects.toMatchObject({ code: 'ERR_PAYLOAD_TOO_LARGE' });
    expect(telemetry.sent.map(({ isDelayed, outcome }) => [isDelayed, outcome])).toEqual([
      [false, { id: expect.any(String) }],
      [false, {}],
      [true, {}],
      [false, { error: expect.objectContaining({ code: 'ERR_PAYLOAD_TOO_LARGE' }) }],
    ]);
    expect(telemetry.sent.every(({ shardId }) => shardId === 0 || shardId === 1)).toBe(true);
    expect(streamer.stats()).toMatchObject({
      status: 'connected',
      queued: 0,
      loops: [{ streamKeys: [key], group: 'g' }],
    });
    await consumer.end();
    await expect(consumer.next()).rejects.toMatchObject({ code: 'ERR_CONSUMER_ENDED' });
    const { id } = await producer.sendTo(`${key}.plain`, 'x');
    const shard = telemetry.sent.at(-1)?.shardId;
    const tail = await streamer.createConsumer(`${key}.plain:${shard}`, {
      mode: 'real-time',
      autoStreamReset: 'earliest',
    });
    expect((await tail.next()).id).toBe(id);
    expect(telemetry.received.map(({ streamKeys, group, outcome }) => [streamKeys, group, outcome])).toEqual([
      [[key], 'g', { error: expect.objectContaining({ code: 'ERR_CONSUMER_ENDED' }) }],
      [[`${key}.plain:${shard}`], undefined, { message: expect.objectContaining({ id }) }],
    ]);
    producer.enqueueTo(key, 'd'.repeat(101));
    expect(telemetry.failures).toEqual(['ERR_PAYLOAD_TOO_LARGE']);
    await streamer.disconnect();
    expect(telemetry.sources.size).toBe(0);
  });

  it('is attached once a connection is needed, and detached when the application has closed', async () => {
    const telemetry = new RecordingTelemetry();
    const pattern = uniqueName('telemetry');
    const module = RedisStreamsModule.forRoot({ connection: nest.url, group: 'g', telemetry });
    const app = await NestFactory.createApplicationContext(moduleOf({ imports: [module] }), QUIET);
    expect(telemetry.sources.size).toBe(0);
    await firstValueFrom(app.get<ClientRedisStreams>(getRedisStreamsToken()).emit(pattern, 1));
    expect(telemetry.sources.size).toBe(1);
    await app.close();
    expect(telemetry.sources.size).toBe(0);
  });

  it('that throws is reported once for each method, and the messages take their way', async () => {
    const pattern = uniqueName('telemetry');
    const fail = (name: string) => (): never => {
      throw new Error(`${name} is broken`);
    };
    const broken: Telemetry = {
      attach: fail('attach'),
      startSend: () => ({ end: fail('startSend') }),
      startProcess: () => ({ run: fail('startProcess'), end: fail('end') }),
      startRequest: fail('startRequest'),
    };
    const twice: Telemetry = {
      startProcess: () => ({
        run: (work) => {
          work();
          throw new Error('after the work');
        },
        end: () => undefined,
      }),
    };
    const log = new LogLines();
    const handled: unknown[] = [];
    const { log: serverLog } = await nest.serve(
      [onEvent(pattern, (data) => handled.push(data)), onRequest(`${pattern}.ask`, () => 'answer')],
      { telemetry: [broken, twice] },
    );
    const client = nest.client({ telemetry: broken, logger: log });
    await firstValueFrom(client.emitBatch(pattern, [1, 2]));
    expect(await lastValueFrom(client.send(`${pattern}.ask`, 1))).toBe('answer');
    await until('both are handled', () => handled.length === 2);
    await nest.untilSettled(pattern);
    expect(handled).toEqual([1, 2]);
    const reports = (lines: string[]): string[] => lines.filter((line) => line.includes('telemetry')).sort();
    expect(reports(log.errors)).toEqual([
      expect.stringContaining('attach() or in what that returned, which is reported once: attach is broken'),
      expect.stringContaining(
        'startRequest() or in what that returned, which is reported once: startRequest is broken',
      ),
      expect.stringContaining('startSend() or in what that returned, which is reported once: startSend is broken'),
    ]);
    expect(reports(serverLog.errors)).toEqual([
      expect.stringContaining('attach()'),
      expect.stringContaining('startProcess() or in what that returned, which is reported once: '),
      expect.stringContaining('startSend()'),
    ]);
  });

  it.each<[string, Telemetry['startProcess'] | (() => unknown)]>([
    ['returns null', () => null],
    ['is async and rejects', () => Promise.reject(new Error('broken'))],
    ['has an end that is async and rejects', () => ({ end: () => Promise.reject(new Error('broken')) })],
    ['has no end', () => ({ run: (work: () => unknown) => work() })],
    ['does not run the work', () => ({ run: () => undefined, end: () => undefined })],
    ['runs the work twice', () => ({ run: (work: () => unknown) => [work(), work()], end: () => undefined })],
    [
      'is async around the work',
      () => ({
        run: async (work: () => unknown) => {
          await setImmediate();
          await work();
          throw new Error('broken');
        },
        end: () => undefined,
      }),
    ],
  ])('that %s does not change that each message is handled once', async (_, start) => {
    const pattern = uniqueName('telemetry');
    const notify = (): Promise<never> => Promise.reject(new Error('broken'));
    const follow = { attach: notify, deadLettered: notify, failed: notify, startSend: start, startProcess: start };
    const telemetry = [follow, new RecordingTelemetry(), follow] as unknown as Telemetry[];
    const handled: unknown[] = [];
    const handle = (data: string): void => {
      handled.push(data);
      if (data === 'bad') throw new RedisStreamsDeadLetterException('bad');
    };
    await nest.serve(onEvent(pattern, handle), { telemetry });
    const client = nest.client({ telemetry });
    for (const data of ['good', 'bad', 'last']) await firstValueFrom(client.emit(pattern, data));
    await until('all are handled', () => handled.includes('last'));
    await nest.untilSettled(pattern);
    // What is left of the last one would be seen in this turn.
    await setImmediate();
    expect(handled).toEqual(['good', 'bad', 'last']);
  });

  it.each([[null], [{}], ['prometheus'], [() => undefined], [[undefined]], [{ startSend: 1 }]])(
    'of the form %p is refused',
    (telemetry) => {
      expect(() => nest.client({ telemetry: telemetry as never })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining('telemetry') }),
      );
    },
  );
});
