import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, MessagePattern, Payload, type MicroserviceOptions } from '@nestjs/microservices';
import {
  ClientRedisStreams,
  RedisStreamer,
  RedisStreamsContext,
  ServerRedisStreams,
  getRedisStreamsToken,
} from 'nestjs-redis-streams';
import { Redis } from 'ioredis';
import { firstValueFrom } from 'rxjs';

// An application that a bundler has made into one small file: it starts on a group that exists already, survives the loss of
// that group, answers a request, and can tell its errors and its injection tokens apart.
const stream = process.env['CHECK_STREAM'] ?? 'package-check';
const connection = process.env['CHECK_REDIS_URL'] ?? 'redis://127.0.0.1:6379';
const group = 'package-check';

const waiting = new Map<number, () => void>();
const handled = (id: number): Promise<void> => new Promise((resolve) => waiting.set(id, resolve));

@Controller()
class OrdersController {
  @EventPattern<string>(stream)
  handle(@Payload() order: { id: number }, @Ctx() context: RedisStreamsContext): void {
    expectEqual(context.getStream(), stream, 'the stream of the context');
    waiting.get(order.id)?.();
  }

  @MessagePattern(`${stream}.sum`)
  sum(@Payload() numbers: number[]): number {
    return numbers.reduce((sum, number) => sum + number, 0);
  }
}

@Module({ controllers: [OrdersController] })
class AppModule {}

function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: expected ${String(expected)}, got ${String(actual)}`);
}

async function start() {
  const strategy = new ServerRedisStreams({ connection, group });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(AppModule, { strategy, logger: false });
  await app.listen();
  return app;
}

function checkNames(): void {
  const tokens = [ClientRedisStreams, RedisStreamer, ServerRedisStreams].map((type) => getRedisStreamsToken('a', type));
  expectEqual(new Set(tokens).size, tokens.length, 'the number of different tokens');
  let name = 'none';
  try {
    new ClientRedisStreams({ maxQueued: -1 });
  } catch (error) {
    ({ name } = error as Error);
  }
  expectEqual(name, 'InvalidOptionError', 'the name of an error');
}

/** The thread that renews leases has no file in a bundle. */
async function checkThread(redis: Redis): Promise<void> {
  const key = `${stream}.blocked`;
  const streamer = await RedisStreamer.connect(connection);
  await (await streamer.createProducer(key)).send('a');
  const consumer = await streamer.createConsumer(key, {
    mode: 'load-balanced',
    group,
    autoStreamReset: 'earliest',
    autoCommit: 'disabled',
    autoClaimIdle: 600,
    leaseRenewal: 'thread',
  });
  await consumer.next();
  const isConnected = async () => String(await redis.client('LIST')).includes('nestjs-redis-streams:renewal');
  while (!(await isConnected())) await new Promise((resolve) => setTimeout(resolve, 10));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_400);
  const [pending] = (await redis.xpending(key, group, '-', '+', 1)) as Array<[string, string, number]>;
  if (!pending || pending[2] > 1_200) throw new Error(`the message was idle for ${pending?.[2]} ms`);
  await streamer.disconnect();
}

async function main(): Promise<void> {
  checkNames();
  const client = new ClientRedisStreams({ connection });
  for (const id of [1, 2]) {
    const app = await start();
    const received = handled(id);
    await firstValueFrom(client.emit(stream, { id }));
    await received;
    await app.close();
  }

  const app = await start();
  expectEqual(await firstValueFrom(client.send<number>(`${stream}.sum`, [1, 2, 3])), 6, 'the reply');
  const redis = new Redis(connection);
  await redis.xgroup('DESTROY', stream, group);
  await checkThread(redis);
  await redis.quit();
  const received = handled(3);
  await firstValueFrom(client.emit(stream, { id: 3 }));
  await received;
  await client.close();
  await app.close();
  console.log('message received');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
