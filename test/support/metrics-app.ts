import { Controller, Get, Header } from '@nestjs/common';
import type { INestApplication, ModuleMetadata, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { Registry } from 'prom-client';

import { ServerRedisStreams } from '../../lib/index.js';
import { moduleOf } from './controllers.js';
import { parseExposition } from './exposition.js';
import type { Exposition } from './exposition.js';
import type { FaultBench } from './fault-bench.js';
import { QUIET } from './nest.js';

export interface MetricsApp {
  readonly app: INestApplication;
  scrape(): Promise<Exposition>;
}

/** An HTTP application that serves `/metrics` and listens, with the server of its module; it is closed after the test. */
export async function metricsApp(
  bench: FaultBench,
  registry: Registry,
  { controllers = [], ...parts }: ModuleMetadata,
): Promise<MetricsApp> {
  const module = moduleOf({ controllers: [metricsController(registry), ...controllers], ...parts });
  const app = await NestFactory.create(module, QUIET);
  bench.endLater(() => app.close());
  app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  const url = `${await app.getUrl()}/metrics`;
  const scrape = async (): Promise<Exposition> => {
    const response = await fetch(url, { headers: { connection: 'close' } });
    const type = response.headers.get('content-type') ?? '';
    if (parametersOf(type) !== parametersOf(registry.contentType)) throw new Error(`another content type: ${type}`);
    return parseExposition(await response.text());
  };
  return { app, scrape };
}

function metricsController(registry: Registry): Type {
  class MetricsController {
    metrics(): Promise<string> {
      return registry.metrics();
    }
  }
  const { prototype } = MetricsController;
  const method = Object.getOwnPropertyDescriptor(prototype, 'metrics') as PropertyDescriptor;
  Get()(prototype, 'metrics', method);
  Header('Content-Type', registry.contentType)(prototype, 'metrics', method);
  Controller('metrics')(MetricsController);
  return MetricsController;
}

/** Express orders them by name. */
function parametersOf(contentType: string): string {
  return contentType.split(/; */).sort().join(';');
}
