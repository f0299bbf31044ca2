import type { INestMicroservice, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { ServerRedisStreams } from '../../lib/index.js';
import type { ServerRedisStreamsOptions } from '../../lib/index.js';
import { moduleOf } from './controllers.js';
import type { FaultBench } from './fault-bench.js';
import { LogLines, QUIET } from './nest.js';

/** A service instance in this process. */
export interface Instance {
  readonly app: INestMicroservice;
  readonly server: ServerRedisStreams;
  readonly log: LogLines;
}

/** Starts a listening instance; it is closed after the test. */
export async function startInstance(
  bench: FaultBench,
  controllers: Type | Type[],
  options: ServerRedisStreamsOptions,
): Promise<Instance> {
  const log = new LogLines();
  const server = new ServerRedisStreams({ blockTimeout: 1_000, logger: log, ...options });
  server.on('error', () => undefined);
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(
    moduleOf({ controllers: [controllers].flat() }),
    { strategy: server, ...QUIET },
  );
  bench.endLater(() => app.close());
  await app.listen();
  return { app, server, log };
}
