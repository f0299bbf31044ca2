import { describe, expect, it } from '@jest/globals';
import { Catch, Controller, HttpCode, Inject, Post } from '@nestjs/common';
import type {
  ArgumentMetadata,
  CallHandler,
  CanActivate,
  ExceptionFilter,
  INestApplication,
  INestMicroservice,
  NestHybridApplicationOptions,
  NestInterceptor,
  PipeTransform,
} from '@nestjs/common';
import { MessagePattern, RpcException } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { firstValueFrom, throwError } from 'rxjs';
import type { Observable } from 'rxjs';

import {
  ClientRedisStreams,
  RedisStreamsModule,
  ServerRedisStreams,
  getRedisStreamsToken,
} from '../../../lib/index.js';
import { connectionIds } from '../../support/connections.js';
import { moduleOf, onEvent } from '../../support/controllers.js';
import { HAS_DISPATCH_HOOK } from '../../support/dispatch-hook.js';
import { gatewayOf } from '../../support/http-gateway.js';
import { GROUP, LogLines, createApp, useNest } from '../../support/nest.js';
import { uniqueName } from '../../support/redis.js';
import { until } from '../../support/until.js';

const nest = useNest();
const steps: string[] = [];

class SpyGuard implements CanActivate {
  canActivate(): boolean {
    steps.push('guard');
    return true;
  }
}

class SpyInterceptor implements NestInterceptor {
  intercept(_context: unknown, next: CallHandler): Observable<unknown> {
    steps.push('interceptor');
    return next.handle();
  }
}

class SpyPipe implements PipeTransform {
  transform(value: unknown, { type }: ArgumentMetadata): unknown {
    if (type === 'body') steps.push('pipe');
    return value;
  }
}

@Catch()
class SpyFilter implements ExceptionFilter {
  catch(error: Error): Observable<never> {
    steps.push('filter');
    return throwError(() => new RpcException(`filtered: ${error.message}`).getError());
  }
}

@Controller()
class SumController {
  constructor(@Inject(getRedisStreamsToken()) private readonly client: ClientRedisStreams) {}

  @Post('sum')
  @HttpCode(200)
  call(): Observable<unknown> {
    return this.client.send('hybrid-sum', [1, 2, 3]);
  }

  @MessagePattern('hybrid-sum')
  sum(terms: number[]): number {
    steps.push('handler');
    return terms.reduce((a, b) => a + b);
  }

  @MessagePattern('hybrid-exception')
  fail(): never {
    throw new Error('test');
  }
}

const options = () => ({ connection: nest.url, logger: new LogLines(), blockTimeout: 1_000, autoCommitInterval: 10 });

interface Hybrid {
  readonly app: INestApplication;
  readonly microservice: INestMicroservice;
}

/** @param configure what the program does with the application before the microservice is connected */
async function hybrid(
  hybridOptions: NestHybridApplicationOptions = {},
  configure: (app: INestApplication) => void = () => undefined,
): Promise<Hybrid> {
  steps.length = 0;
  const imports = [RedisStreamsModule.forRoot({ ...options(), group: GROUP })];
  const app = await createApp(nest, moduleOf({ imports, controllers: [SumController] }));
  configure(app);
  const strategy = app.get(ServerRedisStreams);
  return { app, microservice: app.connectMicroservice<MicroserviceOptions>({ strategy }, hybridOptions) };
}

function useSpies(app: INestApplication | INestMicroservice): void {
  app.useGlobalGuards(new SpyGuard());
  app.useGlobalInterceptors(new SpyInterceptor());
  app.useGlobalPipes(new SpyPipe());
  app.useGlobalFilters(new SpyFilter());
}

describe('the global configuration of a hybrid application', () => {
  it.each<[string, () => Promise<Hybrid>]>([
    ['the application, inherited', () => hybrid({ inheritAppConfig: true }, useSpies)],
    [
      'the connected microservice, whose initialization is deferred',
      async () => {
        const made = await hybrid({ deferInitialization: true });
        useSpies(made.microservice);
        return made;
      },
    ],
  ])('applies to the handlers when it is that of %s', async (_, make) => {
    const { app } = await make();
    await app.startAllMicroservices();
    await app.init();
    const client = app.get<ClientRedisStreams>(getRedisStreamsToken());

    expect(await firstValueFrom(client.send('hybrid-sum', [1, 2, 3]))).toBe(6);
    expect(steps).toEqual(['guard', 'interceptor', 'pipe', 'handler']);
    await expect(firstValueFrom(client.send('hybrid-exception', {}))).rejects.toBe('filtered: test');
    expect(steps.slice(4)).toEqual(['guard', 'interceptor', 'pipe', 'filter']);
  });

  it('of the application alone does not apply to the handlers', async () => {
    const { app } = await hybrid({}, useSpies);
    await app.startAllMicroservices();
    const post = await gatewayOf(app);

    expect(await post('/sum')).toEqual({ status: 200, body: 6 });
    // Those of the route.
    expect(steps).toEqual(['guard', 'interceptor', 'handler']);
  });
});

describe('the end of an application', () => {
  it('removes the signal listeners of a connected microservice', async () => {
    const before = process.listeners('SIGTERM');
    const { app, microservice } = await hybrid();
    microservice.enableShutdownHooks(['SIGTERM']);
    const added = process.listeners('SIGTERM').filter((listener) => !before.includes(listener));
    expect(added).toHaveLength(1);
    await app.startAllMicroservices();
    await app.init();
    await app.close();

    const left = process.listeners('SIGTERM').filter((listener) => !before.includes(listener));
    for (const listener of left) process.removeListener('SIGTERM', listener);
    // Nest 11 leaves its own listener, and nothing else stays there.
    expect(left).toEqual(HAS_DISPATCH_HOOK ? [] : added);
  });

  it('has closed every connection when close() resolves', async () => {
    const { app } = await hybrid();
    await app.startAllMicroservices();
    const post = await gatewayOf(app);
    expect(await post('/sum')).toEqual({ status: 200, body: 6 });
    expect(await connectionIds(nest.redis)).not.toEqual([]);
    await app.close();

    await until('the server sees it too', async () => (await connectionIds(nest.redis)).length === 0);
  });

  it('handles nothing after close() has resolved, and leaves later messages to the next start', async () => {
    const pattern = uniqueName('after-close');
    const handled: string[] = [];
    const serve = (by: string): Promise<{ app: INestMicroservice }> =>
      nest.serve(onEvent(pattern, (data: number) => void handled.push(`${by} ${data}`)));
    const { app } = await serve('first');
    await nest.emit(pattern, 1);
    await until('it is handled', () => handled.length === 1);
    await app.close();
    await nest.emit(pattern, 2);
    await serve('second');

    await until('the other is handled', () => handled.length === 2);
    expect(handled).toEqual(['first 1', 'second 2']);
  });

  it('runs the hooks of the modules in the order of Nest, and the connections still work in all but the last', async () => {
    const hooks: string[] = [];
    const token = getRedisStreamsToken();
    class Shop {
      readonly client: ClientRedisStreams;
      constructor(client: ClientRedisStreams) {
        this.client = client;
      }
      async onModuleDestroy(): Promise<void> {
        if (hooks.length === 2) return; // Nest 11 calls them again at a second close().
        hooks.push(`onModuleDestroy ${(await firstValueFrom(this.client.emit('farewell', 1))).streamKey}`);
      }
      async beforeApplicationShutdown(): Promise<void> {
        if (hooks.length === 2) return;
        hooks.push(`beforeApplicationShutdown ${(await firstValueFrom(this.client.emit('farewell', 2))).streamKey}`);
      }
    }
    Inject(token)(Shop, undefined, 0);
    const imports = [RedisStreamsModule.forRoot({ ...options(), group: GROUP })];
    const app = await createApp(nest, moduleOf({ imports, providers: [Shop] }));
    app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
    await app.startAllMicroservices();
    await app.init();
    await app.close();

    expect(hooks).toEqual(['onModuleDestroy farewell', 'beforeApplicationShutdown farewell']);
    expect(await nest.redis.xlen('farewell')).toBe(2);
  });
});
