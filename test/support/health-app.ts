import { Controller, Get } from '@nestjs/common';
import type { INestApplication, ModuleMetadata, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { HealthCheckService, TerminusModule } from '@nestjs/terminus';
import type { HealthIndicatorFunction } from '@nestjs/terminus';

import { RedisStreamsHealthIndicator } from '../../lib/terminus.js';
import type { HealthCheckOptions } from '../../lib/terminus.js';
import type { FaultBench } from './fault-bench.js';
import { moduleOf } from './controllers.js';
import { QUIET } from './nest.js';

/** The answer of a health endpoint. */
export interface HealthAnswer {
  readonly status: number;
  readonly body: { readonly status: string; readonly details: Record<string, Record<string, unknown>> };
}

export interface HealthApp {
  readonly app: INestApplication;
  ready(): Promise<HealthAnswer>;
  live(): Promise<HealthAnswer>;
}

/** An HTTP application with Terminus that listens; it is closed after the test. @param limits of readiness */
export async function healthApp(
  bench: FaultBench,
  { controllers = [], imports = [], ...parts }: ModuleMetadata,
  limits: HealthCheckOptions = {},
): Promise<HealthApp> {
  const module = moduleOf({
    imports: [TerminusModule.forRoot({ logger: false }), ...imports],
    controllers: [healthController(limits), ...controllers],
    ...parts,
  });
  const app = await NestFactory.create(module, QUIET);
  bench.endLater(() => app.close());
  await app.listen(0, '127.0.0.1');
  const url = await app.getUrl();
  const get = async (path: string): Promise<HealthAnswer> => {
    const response = await fetch(`${url}/health/${path}`, { headers: { connection: 'close' } });
    return { status: response.status, body: (await response.json()) as HealthAnswer['body'] };
  };
  return { app, ready: () => get('ready'), live: () => get('live') };
}

function healthController(limits: HealthCheckOptions): Type {
  class HealthController {
    constructor(
      readonly health: HealthCheckService,
      readonly indicator: RedisStreamsHealthIndicator,
    ) {}

    ready(): unknown {
      return this.#check(() => this.indicator.isHealthy('redis', { of: 'readiness', ...limits }));
    }

    live(): unknown {
      const { maxOldestHandler } = limits;
      return this.#check(() => this.indicator.isHealthy('redis', { of: 'liveness', maxOldestHandler }));
    }

    #check(indicator: HealthIndicatorFunction): unknown {
      return this.health.check([indicator]);
    }
  }
  Reflect.defineMetadata('design:paramtypes', [HealthCheckService, RedisStreamsHealthIndicator], HealthController);
  for (const name of ['ready', 'live'] as const) {
    const method = Object.getOwnPropertyDescriptor(HealthController.prototype, name) as PropertyDescriptor;
    Get(name)(HealthController.prototype, name, method);
  }
  Controller('health')(HealthController);
  return HealthController;
}
