import 'reflect-metadata';
import assert from 'node:assert/strict';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  ClientRedisStreams,
  RedisStreamsContext,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
  StreamEventPattern,
  StreamMessagePattern,
  streamCatalog,
} from 'nestjs-redis-streams';
import { RedisStreamer } from 'nestjs-redis-streams/engine';
import type { StreamManager } from 'nestjs-redis-streams/engine';
import { SsEncoder } from 'nestjs-redis-streams/file';
import { prometheus } from 'nestjs-redis-streams/prometheus';
import { RedisStreamsHealthIndicator } from 'nestjs-redis-streams/terminus';
import { TestClientRedisStreams, TestServerRedisStreams } from 'nestjs-redis-streams/testing';
import type { TimedOutcome } from 'nestjs-redis-streams/testing';
import { Registry } from 'prom-client';
import { firstValueFrom } from 'rxjs';

// Every entry point as a project has it whose TypeScript resolves modules as before 4.7, without the exports of packages:
// "moduleResolution": "node10". Compiled to CommonJS, and run with a real Redis and in tests without one.
const connection = process.env['CHECK_REDIS_URL'];
const stream = process.env['CHECK_STREAM'] ?? 'package-check';
const events = streamCatalog<{ orders: { id: number } }>();
const handled: unknown[] = [];
let onHandled: () => void = () => undefined;

@Controller()
class OrdersController {
  @events.on('orders')
  handle(order: { id: number }, context: RedisStreamsContext): void {
    handled.push([order.id, context.getPattern()]);
    onHandled();
  }

  @StreamEventPattern('reminders', { rateLimit: { max: 1, per: 1_000 } })
  remind(reminder: { to: string }): void {
    handled.push(reminder.to);
  }

  @StreamMessagePattern('sum')
  sum(terms: number[]): number {
    return terms.reduce((sum, term) => sum + term, 0);
  }
}

@Module({ controllers: [OrdersController] })
class AppModule {}

async function inTests(): Promise<void> {
  const server = new TestServerRedisStreams();
  const client = new TestClientRedisStreams(server);
  const app = await NestFactory.createMicroservice(AppModule, { strategy: server, logger: false });
  await app.listen();
  await firstValueFrom(events.client(client).emit('orders', { id: 1 }));
  const reminder = new RedisStreamsRecordBuilder({ to: 'Ann' }).setDelay(3_600_000).build();
  await firstValueFrom(client.emitBatch('reminders', [reminder, reminder]));
  await server.advanceTime(3_600_000);
  assert.deepEqual(handled.splice(0), [[1, 'orders'], 'Ann']);
  const [outcome]: TimedOutcome[] = await server.advanceTime(1_000);
  assert.equal(outcome?.settlement, 'ack');
  assert.deepEqual(handled.splice(0), ['Ann']);
  assert.equal(await firstValueFrom(client.send<number>('sum', [1, 2])), 3);
  await app.close();
}

async function withRedis(): Promise<void> {
  assert.equal(new SsEncoder({ fileName: 'orders.ss' }).bytesWritten, 0);
  const streams = { orders: stream, reminders: `${stream}.reminders`, sum: `${stream}.sum` };
  const registry = new Registry();
  const telemetry = prometheus({ registry });
  const strategy = new ServerRedisStreams({ connection, group: 'package-check', streams, telemetry });
  const app = await NestFactory.createMicroservice(AppModule, { strategy, logger: ['error', 'warn'] });
  const received = new Promise<void>((resolve) => (onHandled = resolve));
  await app.listen();
  const client = new ClientRedisStreams({ connection, streams, telemetry });
  await firstValueFrom(events.client(client).emit('orders', { id: 2 }));
  await received;
  assert.deepEqual(handled, [[2, 'orders']]);
  assert.match(await registry.metrics(), /^redis_streams_messages_sent_total\{stream=".*",outcome="sent"\} 1$/m);

  const streamer = await RedisStreamer.connect(connection);
  const manager: StreamManager = await streamer.createManager();
  assert.equal((await manager.range(stream, '-', '+')).length, 1);
  assert.equal((await new RedisStreamsHealthIndicator({ strategy }).isHealthy('x')).x.status, 'up');
  await Promise.all([streamer.disconnect(), client.close()]);
  await app.close();
}

inTests()
  .then(withRedis)
  .then(() => console.log('message received'))
  .catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
