import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import type { INestMicroservice, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, EventPattern, Transport } from '@nestjs/microservices';
import type { ClientProxy, MicroserviceOptions } from '@nestjs/microservices';
import { Redis } from 'ioredis';
import { lastValueFrom } from 'rxjs';

import { ClientRedisStreams, ServerRedisStreams } from '../lib/index.js';
import type { ServerRedisStreamsOptions } from '../lib/index.js';
import { rate } from './harness.js';
import type { Comparison, Contender } from './harness.js';

const MESSAGES = 20_000;
/** With the quotes that JSON puts around it, 256 bytes. */
const PAYLOAD = 'x'.repeat(254);
/** Messages that are emitted and not yet confirmed: LANES × WAVE. */
const LANES = 4;
const WAVE = 250;

type Client = Pick<ClientProxy, 'connect' | 'emit' | 'close'>;

/** Counts what its handler is given. */
class Counter {
  #left = 0;
  #onAll: () => void = () => undefined;

  /** Resolves when so many messages have come. */
  expect(messages: number): Promise<void> {
    this.#left = messages;
    return new Promise((resolve) => (this.#onAll = resolve));
  }

  count(): void {
    this.#left -= 1;
    if (this.#left === 0) this.#onAll();
  }
}

/** From `emit` to the return of the `@EventPattern` handler, client and server in this process. */
export async function emitToHandler(url: string): Promise<Comparison> {
  const { hostname: host, port } = new URL(url);
  const nest = { transport: Transport.REDIS as const, options: { host, port: Number(port) } };
  const streams = (topic: string, options: Partial<ServerRedisStreamsOptions>): Promise<Emitting> =>
    Emitting.open(
      `nestjs-redis-streams${describe(options)}`,
      topic,
      { strategy: new ServerRedisStreams({ connection: url, group: 'bench', ...options }) },
      new ClientRedisStreams({ connection: url }),
    );
  const contenders = [
    await Emitting.open("Nest's Redis transport", 'bench-pub-sub', nest, ClientProxyFactory.create(nest)),
    await streams('bench-defaults', {}),
    await streams('bench-tuned', { batchSize: 200, prefetch: 1_000, concurrency: 200 }),
  ];
  return {
    title: 'From emit() to the handler',
    note: `${MESSAGES} events of 256 bytes a round, ${LANES * WAVE} unconfirmed at most. Nest's transport is pub/sub: nothing is
stored, acknowledged or sent again. Here each event is stored, handled by a group and acknowledged.`,
    contenders,
    close: async () => {
      for (const contender of contenders) await contender.close();
      const redis = new Redis(url);
      await redis.del('bench-defaults', 'bench-tuned');
      await redis.quit();
    },
  };
}

class Emitting implements Contender {
  readonly name: string;
  readonly #topic: string;
  readonly #client: Client;
  readonly #app: INestMicroservice;
  readonly #counter: Counter;

  private constructor(name: string, topic: string, client: Client, app: INestMicroservice, counter: Counter) {
    this.name = name;
    this.#topic = topic;
    this.#client = client;
    this.#app = app;
    this.#counter = counter;
  }

  static async open(name: string, topic: string, server: MicroserviceOptions, client: Client): Promise<Emitting> {
    const counter = new Counter();
    const app = await NestFactory.createMicroservice<MicroserviceOptions>(appFor(topic, counter), {
      ...server,
      logger: ['error', 'warn'],
    });
    await app.listen();
    await client.connect();
    return new Emitting(name, topic, client, app, counter);
  }

  round(): Promise<number> {
    return rate(MESSAGES, async () => {
      const handled = this.#counter.expect(MESSAGES);
      await Promise.all(Array.from({ length: LANES }, () => this.#emitLane(MESSAGES / LANES)));
      await handled;
    });
  }

  async close(): Promise<void> {
    await this.#client.close();
    await this.#app.close();
  }

  async #emitLane(messages: number): Promise<void> {
    for (let sent = 0; sent < messages; sent += WAVE) {
      const wave = Array.from({ length: WAVE }, () =>
        lastValueFrom(this.#client.emit<unknown>(this.#topic, PAYLOAD), { defaultValue: undefined }),
      );
      await Promise.all(wave);
    }
  }
}

function appFor(topic: string, counter: Counter): Type {
  @Controller()
  class BenchController {
    @EventPattern<string>(topic)
    handle(): void {
      counter.count();
    }
  }

  @Module({ controllers: [BenchController] })
  class BenchModule {}
  return BenchModule;
}

function describe(options: object): string {
  const parts = Object.entries(options).map(([name, value]) => `${name} ${String(value)}`);
  return parts.length === 0 ? ', defaults' : `, ${parts.join(', ')}`;
}
