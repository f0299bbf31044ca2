import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientProxyFactory, EventPattern, MessagePattern, Payload, Transport } from '@nestjs/microservices';
import type { ClientProxy, MicroserviceOptions } from '@nestjs/microservices';

import type { ServerRedisStreamsOptions } from '../../lib/index.js';
import { ClientRedisStreams, ServerRedisStreams } from '../library.js';
import type { Setting } from '../row.js';
import { connectionOf, keyOf } from './setting.js';

/** The group of every server in the benchmarks. */
export const GROUP = 'bench';

type NestClient = Pick<ClientProxy, 'connect' | 'emit' | 'send' | 'close'>;

/** A microservice and a client of it, in one process. */
export interface NestApp {
  readonly client: NestClient;
  close(): Promise<void>;
}

interface Ends {
  readonly client: NestClient;
  readonly server: MicroserviceOptions;
}

/** The parts in which two otherwise equal applications differ. */
export type ChosenTransport = (setting: Setting) => Ends;

export const nestRedis: ChosenTransport = ({ url }) => {
  const { hostname: host, port } = new URL(url);
  const options = { transport: Transport.REDIS as const, options: { host, port: Number(port) } };
  return { client: ClientProxyFactory.create(options), server: options };
};

export function redisStreams(options: Partial<ServerRedisStreamsOptions> = {}): ChosenTransport {
  return (setting) => {
    const { telemetry = [] } = options;
    const followed = [telemetry].flat().length > 0 && { telemetry };
    const common = { connection: connectionOf(setting), replyPrefix: keyOf(setting, 'reply:'), ...followed };
    const strategy = new ServerRedisStreams({ ...common, group: GROUP, ...options });
    return { client: new ClientRedisStreams(common), server: { strategy } };
  };
}

export async function openNestApp(setting: Setting, choose: ChosenTransport, controller: Type): Promise<NestApp> {
  const { client, server } = choose(setting);
  const logger = { logger: ['error' as const, 'warn' as const] };
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(moduleWith(controller), {
    ...server,
    ...logger,
  });
  await app.listen();
  await client.connect();
  return {
    client,
    async close() {
      await client.close();
      await app.close();
    },
  };
}

/** Passes each event to a function. */
export function eventController(topic: string, onEvent: () => void): Type {
  @Controller()
  class EventController {
    @EventPattern<string>(topic)
    handle(): void {
      onEvent();
    }
  }
  return EventController;
}

/** Answers each request with its own payload. */
export function echoController(topic: string): Type {
  @Controller()
  class EchoController {
    @MessagePattern<string>(topic)
    handle(@Payload() data: string): string {
      return data;
    }
  }
  return EchoController;
}

function moduleWith(controller: Type): Type {
  @Module({ controllers: [controller] })
  class BenchModule {}
  return BenchModule;
}
