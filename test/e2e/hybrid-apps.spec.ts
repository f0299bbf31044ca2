import { expect, it } from '@jest/globals';
import { Controller, Injectable } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationShutdown, OnModuleDestroy } from '@nestjs/common';
import { ClientProxyFactory, EventPattern, Payload, Transport } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  RedisStreamsModule,
  ServerRedisStreams,
  StreamEventPattern,
} from '../../lib/index.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { moduleOf } from '../support/controllers.js';
import { GROUP, LogLines, createApp, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** Options of the module of an application that sends and handles. */
const both = () => ({
  connection: nest.url,
  group: GROUP,
  logger: new LogLines(),
  blockTimeout: 1_000,
  autoCommitInterval: 10,
});

it('close() of the application runs onModuleDestroy while handlers run, and onApplicationShutdown after they have ended', async () => {
  const [pattern, next] = [uniqueName('orders'), uniqueName('paid')];
  const gate = withResolvers<void>();
  const steps: string[] = [];

  @Injectable()
  class Database implements OnModuleDestroy, BeforeApplicationShutdown, OnApplicationShutdown {
    onModuleDestroy(): void {
      steps.push('onModuleDestroy');
    }
    beforeApplicationShutdown(): void {
      steps.push('beforeApplicationShutdown');
      gate.resolve();
    }
    onApplicationShutdown(): void {
      steps.push('onApplicationShutdown');
    }
  }

  @Controller()
  class OrdersController {
    constructor(@InjectRedisStreams() private readonly client: ClientRedisStreams) {}

    @StreamEventPattern(pattern)
    async handle(): Promise<void> {
      steps.push('started');
      await gate.promise;
      await firstValueFrom(this.client.emit(next, 1));
      steps.push('ended');
    }
  }

  const app = await createApp(
    nest,
    moduleOf({
      imports: [RedisStreamsModule.forRoot(both())],
      controllers: [OrdersController],
      providers: [Database],
    }),
  );
  app.connectMicroservice<MicroserviceOptions>({ strategy: app.get(ServerRedisStreams) });
  await app.startAllMicroservices();
  await nest.emit(pattern, 1);
  await until('the handler runs', () => steps.length === 1);
  await app.close();

  expect(steps).toEqual(['started', 'onModuleDestroy', 'beforeApplicationShutdown', 'ended', 'onApplicationShutdown']);
  expect(await nest.redis.xlen(next)).toBe(1);
  expect(await nest.pending(pattern)).toBe(0);
});

it("a handler without a transport is called once for each message of Nest's Redis transport and of this one", async () => {
  const pattern = uniqueName('moving');
  const seen: string[] = [];

  @Controller()
  class OrdersController {
    @EventPattern<string>(pattern)
    handle(@Payload() order: string): void {
      seen.push(order);
    }
  }

  const app = await createApp(nest, moduleOf({ controllers: [OrdersController] }));
  const { hostname: host, port } = new URL(nest.url);
  const redis = { transport: Transport.REDIS, options: { host, port: Number(port) } } as const;
  app.connectMicroservice<MicroserviceOptions>(redis);
  app.connectMicroservice<MicroserviceOptions>({ strategy: new ServerRedisStreams(both()) });
  await app.startAllMicroservices();
  const old = ClientProxyFactory.create(redis);
  nest.closeLater({ close: async () => old.close() });
  await until('the channel has a subscriber', async () => {
    return Number((await nest.redis.pubsub('NUMSUB', pattern))[1]) === 1;
  });
  await firstValueFrom(old.emit(pattern, 'by channel'), { defaultValue: undefined });
  await nest.emit(pattern, 'by stream');

  await until('both are handled', () => seen.length === 2);
  await nest.untilSettled(pattern);
  expect(seen.sort()).toEqual(['by channel', 'by stream']);
});
