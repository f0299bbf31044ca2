import { expect, it } from '@jest/globals';
import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MessageHandler, MicroserviceOptions, ReadPacket } from '@nestjs/microservices';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';

import { RedisStreamer, RedisStreamsContext, ServerRedisStreams } from '../../lib/index.js';
import type { ContextScope, MessageDelivery, ServerRedisStreamsOptions } from '../../lib/index.js';
import { moduleOf, onBatch, onEvent, onRequest } from '../support/controllers.js';
import { GROUP, LogLines, QUIET, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** A microservice whose server is of the given class. */
async function serveWith<S extends ServerRedisStreams>(
  Server: new (options: ServerRedisStreamsOptions) => S,
  controllers: Type | Type[],
  options: Partial<ServerRedisStreamsOptions> = {},
): Promise<{ server: S; log: LogLines }> {
  const log = new LogLines();
  const server = new Server({
    connection: nest.url,
    group: GROUP,
    autoCommitInterval: 10,
    blockTimeout: 1_000,
    logger: log,
    ...options,
  });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(
    moduleOf({ controllers: [controllers].flat() }),
    { strategy: server, ...QUIET },
  );
  nest.closeLater(app);
  await app.listen();
  return { server, log };
}

class TenantContext extends RedisStreamsContext {
  getTenant(): string {
    return this.getHeader('tenant') ?? 'none';
  }
}

class TenantServer extends ServerRedisStreams {
  override createContext(delivery: MessageDelivery, scope: ContextScope): TenantContext {
    return new TenantContext(delivery, scope);
  }
}

it('createContext: handlers of events, batches and requests are given the context of the override', async () => {
  const [event, batch, request] = [uniqueName('event'), uniqueName('batch'), uniqueName('request')];
  const tenants: string[] = [];
  const note = (context: RedisStreamsContext): unknown => tenants.push((context as TenantContext).getTenant());
  await serveWith(TenantServer, [
    onEvent(
      event,
      (_data, context) => {
        note(context);
        context.ack();
      },
      { ack: 'manual' },
    ),
    onBatch(batch, (_payloads, contexts) => contexts.forEach(note), { batch: { size: 2, timeout: 10 } }),
    onRequest(request, (_data, context) => (context as TenantContext).getTenant()),
  ]);
  await nest.redis.xadd(event, '*', 'msg', '1', 'h:tenant', 'acme');
  await nest.redis.xadd(batch, '*', 'msg', '1', 'h:tenant', 'globex');

  await until('both are handled', () => tenants.length === 2);
  expect(tenants.sort()).toEqual(['acme', 'globex']);
  expect(await firstValueFrom(nest.client().send(request, 1))).toBe('none');
  for (const pattern of [event, batch, request]) await nest.untilSettled(pattern);
});

it('handleMessage: events and requests pass through the override, which may settle a message itself', async () => {
  const passed: string[] = [];
  class FilteringServer extends ServerRedisStreams {
    override async handleMessage(context: RedisStreamsContext): Promise<void> {
      passed.push(`${context.getPattern()} ${context.getMessage().text()}`);
      if (context.getHeader('skip')) context.ack();
      else await super.handleMessage(context);
    }
  }
  const [event, request] = [uniqueName('event'), uniqueName('request')];
  const handled: unknown[] = [];
  const { log } = await serveWith(FilteringServer, [
    onEvent(event, (data) => handled.push(data)),
    onRequest(request, (data: number) => data + 1),
  ]);
  await nest.redis.xadd(event, '*', 'msg', '1', 'h:skip', 'yes');
  await nest.redis.xadd(event, '*', 'msg', '2');

  expect(await firstValueFrom(nest.client().send(request, 3))).toBe(4);
  await until('the other event is handled', () => handled.length === 1);
  await nest.untilSettled(event);
  expect(handled).toEqual([2]);
  expect(passed.sort()).toEqual([`${event} 1`, `${event} 2`, `${request} 3`].sort());
  expect(log.errors).toEqual([]);
});

it('handleMessage: a failure of the override itself is reported, and its message is retried', async () => {
  let calls = 0;
  class BrokenServer extends ServerRedisStreams {
    override handleMessage(context: RedisStreamsContext): Promise<void> {
      calls += 1;
      if (calls === 1) throw new Error('a mistake in the override');
      return super.handleMessage(context);
    }
  }
  const pattern = uniqueName('broken');
  const counts: number[] = [];
  const { log } = await serveWith(
    BrokenServer,
    onEvent(pattern, (_data, context) => counts.push(context.getDeliveryCount())),
    { retry: { delay: 10 } },
  );
  await nest.emit(pattern, 1);

  await until('it is handled', () => counts.length === 1);
  expect(counts).toEqual([2]);
  expect(log.errors).toEqual([expect.stringMatching(/a mistake in the override/)]);
});

it('handleBatch and handleEvents: batches pass through the overrides, requests among them through handleMessage', async () => {
  const steps: string[] = [];
  class BatchServer extends ServerRedisStreams {
    override async handleBatch(contexts: readonly RedisStreamsContext[]): Promise<void> {
      steps.push(`batch of ${contexts.length}`);
      await super.handleBatch(contexts);
    }

    override async handleEvents(payloads: readonly unknown[], contexts: readonly RedisStreamsContext[]): Promise<void> {
      steps.push(`events ${payloads.join()}`);
      await super.handleEvents(payloads, contexts);
    }

    override async handleMessage(context: RedisStreamsContext): Promise<void> {
      steps.push(`message ${context.getMessage().text()}`);
      await super.handleMessage(context);
    }
  }
  const pattern = uniqueName('batches');
  const reply = uniqueName('reply:x');
  await nest.redis.xadd(pattern, '*', 'msg', '1');
  await nest.redis.xadd(pattern, '*', 'msg', '2', 'h:correlation-id', 'c', 'h:reply-to', reply);
  await nest.redis.xadd(pattern, '*', 'msg', '3');
  const handled: unknown[] = [];
  await serveWith(
    BatchServer,
    onBatch(pattern, (payloads) => handled.push(payloads), { batch: { size: 3, timeout: 1_000 } }),
  );

  await until('the batch is handled', () => handled.length === 1);
  await nest.untilSettled(pattern);
  expect(handled).toEqual([[1, 3]]);
  expect(steps).toEqual(['batch of 3', 'message 2', 'events 1,3']);
  await nest.redis.del(reply);
});

it('handleEvent: the override wraps the handlers, and what it throws is settled like the failure of a handler', async () => {
  class GuardingServer extends ServerRedisStreams {
    override async handleEvent(pattern: string, packet: ReadPacket, context: RedisStreamsContext): Promise<void> {
      if (packet.data === 'poison') throw new Error('refused by the override');
      await super.handleEvent(pattern, { ...packet, data: { seen: packet.data as unknown } }, context);
    }
  }
  const pattern = uniqueName('guarded');
  const handled: unknown[] = [];
  const { log } = await serveWith(
    GuardingServer,
    onEvent(pattern, (data) => handled.push(data)),
    { retry: false },
  );
  await nest.emit(pattern, 'poison');
  await nest.emit(pattern, 'food');

  await until('the second is handled', () => handled.length === 1);
  await nest.untilSettled(pattern);
  expect(handled).toEqual([{ seen: 'food' }]);
  expect(log.errors.join('\n')).toMatch(/refused by the override/);
  expect((await nest.entries(`${pattern}.dead`)).map(({ fields }) => fields['msg'])).toEqual(['"poison"']);
});

it('handleEvent: the override may hand an event to the handlers of another pattern', async () => {
  const [inbox, paid] = [uniqueName('inbox'), uniqueName('paid')];
  class RoutingServer extends ServerRedisStreams {
    override handleEvent(pattern: string, packet: ReadPacket, context: RedisStreamsContext): Promise<void> {
      return super.handleEvent(context.getHeader('type') ?? pattern, packet, context);
    }
  }
  const handled: string[] = [];
  const { log } = await serveWith(
    RoutingServer,
    [
      onEvent(inbox, (data) => handled.push(`inbox ${data as string}`)),
      onEvent(paid, (data) => handled.push(`paid ${data as string}`)),
    ],
    { retry: false },
  );
  await nest.redis.xadd(inbox, '*', 'msg', '"a"', 'h:type', paid);
  await nest.redis.xadd(inbox, '*', 'msg', '"b"');
  await nest.redis.xadd(inbox, '*', 'msg', '"c"', 'h:type', 'unknown');

  await until('all are handled', () => handled.length === 2 && log.errors.length === 1);
  await nest.untilSettled(inbox);
  expect(handled.sort()).toEqual(['inbox b', 'paid a']);
  expect(log.errors[0]).toMatch(/pattern must have an event handler; got "unknown"/);
});

it('addHandler: the override may wrap a handler and change its settings', async () => {
  class RenamingServer extends ServerRedisStreams {
    override addHandler(
      pattern: unknown,
      callback: MessageHandler,
      isEventHandler?: boolean,
      extras?: Record<string, unknown>,
    ): void {
      const wrapped: MessageHandler = async (data: unknown, context) => callback([data], context) as unknown;
      super.addHandler(`${pattern as string}-v2`, wrapped, isEventHandler, { ...extras, concurrency: 1 });
    }
  }
  const pattern = uniqueName('renamed');
  const handled: unknown[] = [];
  const { server } = await serveWith(
    RenamingServer,
    onEvent(pattern, (data) => handled.push(data)),
  );
  await nest.emit(`${pattern}-v2`, 1);

  await until('it is handled', () => handled.length === 1);
  await nest.untilSettled(`${pattern}-v2`);
  expect(handled).toEqual([[1]]);
  expect([...server.getHandlers().keys()]).toEqual([`${pattern}-v2`]);
});

it('bindEvents: the override may add handlers before it, and runs once Redis is reached', async () => {
  const [declared, added] = [uniqueName('declared'), uniqueName('added')];
  const handled: unknown[] = [];
  const statuses: string[] = [];
  class AddingServer extends ServerRedisStreams {
    override async bindEvents(): Promise<void> {
      statuses.push(await firstValueFrom(this.status));
      this.addHandler(added, async (data: unknown) => void handled.push(data), true);
      await super.bindEvents();
    }
  }
  await serveWith(
    AddingServer,
    onEvent(declared, (data) => handled.push(data)),
  );
  await nest.emit(declared, 'declared');
  await nest.emit(added, 'added');

  await until('both are handled', () => handled.length === 2);
  for (const pattern of [declared, added]) await nest.untilSettled(pattern);
  expect(new Set(handled)).toEqual(new Set(['added', 'declared']));
  expect(statuses).toEqual(['connected']);
});

it('createStreamer: the server reads through the streamer of the override', async () => {
  class OwnStreamerServer extends ServerRedisStreams {
    protected override createStreamer(options: ServerRedisStreamsOptions): RedisStreamer {
      return new RedisStreamer(options.connection, { ...options, messageField: 'body' });
    }
  }
  const pattern = uniqueName('streamer');
  const handled: unknown[] = [];
  const { server } = await serveWith(
    OwnStreamerServer,
    onEvent(pattern, (data) => handled.push(data)),
  );
  await nest.redis.xadd(pattern, '*', 'body', '{"n":1}');

  await until('it is handled', () => handled.length === 1);
  await nest.untilSettled(pattern);
  expect(handled).toEqual([{ n: 1 }]);
  expect(server.unwrap()).toBeInstanceOf(RedisStreamer);
});

it('serializer and deserializer: fields of the subclass decode messages and encode replies', async () => {
  class WrappingServer extends ServerRedisStreams {
    protected override serializer = { serialize: (data: unknown) => JSON.stringify({ wrapped: data }) };
    protected override deserializer = {
      deserialize: async (payload: Buffer) => (JSON.parse(payload.toString()) as { inner: never }).inner,
    };
  }
  const pattern = uniqueName('coded');
  await serveWith(
    WrappingServer,
    onRequest(pattern, (data: number) => [data, data + 1]),
  );
  const answer = nest.client().send(pattern, { inner: 1 });

  expect(await lastValueFrom(answer.pipe(toArray()))).toEqual([{ wrapped: [1, 2] }]);
});
