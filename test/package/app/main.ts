import 'reflect-metadata';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, Payload, Server, type MicroserviceOptions } from '@nestjs/microservices';
import { ClientRedisStreams, RedisStreamsContext, ServerRedisStreams } from 'nestjs-redis-streams';
import { RedisStreamsHealthIndicator } from 'nestjs-redis-streams/terminus';
import { firstValueFrom } from 'rxjs';

// The smallest application that sends itself one message. It is copied beside a package.json, compiled there
// as CommonJS or as ESM, and run against the packed package; it ends by itself when nothing is left open.
interface Order {
  id: number;
}

const stream = process.env['CHECK_STREAM'] ?? 'package-check';
const connection = process.env['CHECK_REDIS_URL'];

let onReceived: (order: Order, context: RedisStreamsContext) => void;
const received = new Promise<string>((resolve) => {
  onReceived = (order, context) => resolve(`order ${order.id} from ${context.getStream()}`);
});

@Controller()
class OrdersController {
  // The type argument names the overload without a map of events: Nest 12 takes the other one for a plain
  // string, which in a strict project refuses a typed context.
  @EventPattern<string>(stream)
  handle(@Payload() order: Order, @Ctx() context: RedisStreamsContext): void {
    onReceived(order, context);
  }
}

@Module({ controllers: [OrdersController] })
class AppModule {}

function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: expected ${String(expected)}, got ${String(actual)}`);
}

async function expectOneCopy(): Promise<void> {
  const required = createRequire(join(process.cwd(), 'main.js'))(
    'nestjs-redis-streams',
  ) as typeof import('nestjs-redis-streams');
  const imported = await import('nestjs-redis-streams');
  expectEqual(required.ServerRedisStreams, ServerRedisStreams, 'the class that require() gives');
  expectEqual(imported.ServerRedisStreams, ServerRedisStreams, 'the class that import() gives');
}

/** What is optional is loaded by its own entry point only. */
async function expectMetrics(): Promise<void> {
  const isLoaded = (): boolean =>
    Object.keys(createRequire(join(process.cwd(), 'main.js')).cache).some((file) => file.includes('/prom-client/'));
  expectEqual(isLoaded(), false, 'whether prom-client was loaded before its entry point');
  const { prometheus } = await import('nestjs-redis-streams/prometheus');
  prometheus();
  expectEqual(isLoaded(), true, 'whether prom-client was loaded by its entry point');
  const { register } = await import('prom-client');
  const text = await register.metrics();
  expectEqual(/^# TYPE redis_streams_group_lag gauge$/m.test(text), true, 'whether the metrics are registered');
}

async function main(): Promise<void> {
  await expectOneCopy();
  const strategy = new ServerRedisStreams({ connection, group: 'package-check' });
  expectEqual(strategy instanceof Server, true, 'the server extends the Server of this Nest');

  const app = await NestFactory.createMicroservice<MicroserviceOptions>(AppModule, {
    strategy,
    logger: ['error', 'warn'],
  });
  await app.listen();
  const client = new ClientRedisStreams({ connection });
  await firstValueFrom(client.emit(stream, { id: 42 }));
  expectEqual(await received, `order 42 from ${stream}`, 'what the handler received');
  const { parts } = await new RedisStreamsHealthIndicator({ server: strategy, client }).isHealthy('parts');
  expectEqual(parts.message ?? parts.status, 'up', 'the health of server and client');
  await client.close();
  await app.close();
  await expectMetrics();
  console.log('message received');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
