import { beforeEach, describe, expect, it } from '@jest/globals';
import { Body, Controller, HttpCode, Inject, Injectable, Module, Param, Post } from '@nestjs/common';
import type { Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import {
  Client,
  ClientProxy,
  ClientsModule,
  Ctx,
  EventPattern,
  MessagePattern,
  Payload,
  RpcException,
} from '@nestjs/microservices';
import type { AsyncMicroserviceOptions, ClientOptions, ClientsModuleOptionsFactory } from '@nestjs/microservices';
import { catchError, from, lastValueFrom, of, scan, throwError, toArray } from 'rxjs';
import type { Observable } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  RedisStreamsContext,
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
} from '../../../lib/index.js';
import type { ClientRedisStreamsOptions } from '../../../lib/index.js';
import { moduleOf, onRequest } from '../../support/controllers.js';
import { gatewayOf } from '../../support/http-gateway.js';
import type { HttpAnswer } from '../../support/http-gateway.js';
import { GROUP, LogLines, QUIET, createApp, useNest } from '../../support/nest.js';
import { until } from '../../support/until.js';

const nest = useNest();

const clientOptions = (): ClientRedisStreamsOptions => ({
  connection: nest.url,
  logger: new LogLines(),
  blockTimeout: 1_000,
});

/** Gives each error to the caller as an RpcException. */
class WrappingClient extends ClientRedisStreams {
  protected override serializeError(error: unknown): unknown {
    return new RpcException(error as object);
  }
}

const custom = (customClass: typeof ClientRedisStreams = ClientRedisStreams): ClientOptions =>
  ({ customClass, options: clientOptions() }) as unknown as ClientOptions;

@Injectable()
class ClientOptionsFactory implements ClientsModuleOptionsFactory {
  createClientOptions(): ClientOptions {
    return custom();
  }
}

/** Each way in which Nest makes a client. */
@Injectable()
class Clients {
  @Client(custom())
  readonly decorated!: ClientProxy;

  constructor(
    @Inject('REGISTERED') readonly registered: ClientProxy,
    @Inject('USE_FACTORY') readonly useFactory: ClientProxy,
    @Inject('USE_CLASS') readonly useClass: ClientProxy,
    @Inject('WRAPPING') readonly wrapping: ClientProxy,
    @InjectRedisStreams() readonly module: ClientProxy,
  ) {}
}

type ClientName = keyof Clients;
const sum = (terms: readonly number[]): number => terms.reduce((a, b) => a + b);
const notified: string[] = [];

@Controller()
class SumController {
  constructor(@Inject(Clients) private readonly clients: Clients) {}

  @Post('call/:client/:command')
  @HttpCode(200)
  call(@Param('client') client: ClientName, @Param('command') cmd: string, @Body() data: unknown): Observable<unknown> {
    return this.clients[client].send({ cmd }, data);
  }

  @Post('stream')
  @HttpCode(200)
  stream(@Body() data: number[]): Observable<number> {
    return this.clients.module.send<number>({ cmd: 'streaming' }, data).pipe(scan((a, b) => a + b));
  }

  @Post('concurrent')
  @HttpCode(200)
  async concurrent(@Body() lists: number[][]): Promise<boolean> {
    const answers = lists.map((terms) => lastValueFrom(this.clients.module.send<number>({ cmd: 'sum' }, terms)));
    return (await Promise.all(answers)).every((answer, index) => answer === sum(lists[index] as number[]));
  }

  @Post('error/:client')
  @HttpCode(200)
  error(@Param('client') client: ClientName, @Body('cmd') cmd: string): Observable<unknown> {
    return this.clients[client]
      .send<unknown>({ cmd }, {})
      .pipe(catchError((error: unknown) => of({ error, isRpcException: error instanceof RpcException })));
  }

  @Post('notify')
  @HttpCode(200)
  notify(@Body('text') text: string): Observable<unknown> {
    return this.clients.module.emit('notification', text);
  }

  @Post('record')
  @HttpCode(200)
  record(@Body() data: unknown): Observable<unknown> {
    const record = new RedisStreamsRecordBuilder(data).setHeader('x-version', '1.0.0').build();
    return this.clients.module.send('record', record);
  }

  @MessagePattern({ cmd: 'sum' })
  sum(terms: number[]): number {
    return sum(terms);
  }

  @MessagePattern({ cmd: 'asyncSum' })
  async asyncSum(terms: number[]): Promise<number> {
    return sum(terms);
  }

  @MessagePattern({ cmd: 'streamSum' })
  streamSum(terms: number[]): Observable<number> {
    return of(sum(terms));
  }

  @MessagePattern({ cmd: 'streaming' })
  streaming(terms: number[]): Observable<number> {
    return from(terms);
  }

  @MessagePattern({ cmd: 'rpc-exception' })
  rpcException(): Observable<never> {
    return throwError(() => new RpcException('test'));
  }

  @MessagePattern({ cmd: 'rpc-exception-object' })
  rpcExceptionObject(): never {
    throw new RpcException({ code: 42, details: { field: 'amount' } });
  }

  @MessagePattern({ cmd: 'plain-error' })
  plainError(): never {
    throw new Error('a secret of the service');
  }

  @MessagePattern('record')
  answerRecord(@Payload() data: unknown, @Ctx() context: RedisStreamsContext): unknown {
    return { data, version: context.getHeader('x-version') };
  }

  @EventPattern('notification')
  first(@Payload() text: string): void {
    notified.push(`first ${text}`);
  }

  @EventPattern('notification')
  second(@Payload() text: string): void {
    notified.push(`second ${text}`);
  }
}

@Module({ providers: [ClientOptionsFactory], exports: [ClientOptionsFactory] })
class OptionsModule {}

/** Made for each application: `register` creates its client at once. */
function sumModule(): Type {
  return moduleOf({
    imports: [
      OptionsModule,
      ClientsModule.register([{ name: 'REGISTERED', ...custom() } as never]),
      ClientsModule.registerAsync([
        {
          name: 'USE_FACTORY',
          imports: [OptionsModule],
          inject: [ClientOptionsFactory],
          useFactory: (factory: ClientOptionsFactory) => factory.createClientOptions(),
        },
        { name: 'USE_CLASS', useClass: ClientOptionsFactory },
        { name: 'WRAPPING', useFactory: () => custom(WrappingClient) },
      ]),
      RedisStreamsModule.forRoot({ ...clientOptions(), group: GROUP, autoCommitInterval: 10 }),
    ],
    providers: [Clients],
    controllers: [SumController],
  });
}

describe('a hybrid application with an HTTP gateway', () => {
  let post: (path: string, body?: unknown) => Promise<HttpAnswer>;

  beforeEach(async () => {
    notified.length = 0;
    const app = await createApp(nest, sumModule());
    app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
    await app.startAllMicroservices();
    post = await gatewayOf(app);
  });

  it.each<[string, ClientName]>([
    ['the decorator @Client', 'decorated'],
    ['ClientsModule.register', 'registered'],
    ['ClientsModule.registerAsync with useFactory', 'useFactory'],
    ['ClientsModule.registerAsync with useClass', 'useClass'],
    ['a class that extends ClientRedisStreams', 'wrapping'],
    ['RedisStreamsModule', 'module'],
  ])('sums by a value, a promise and an Observable, with a client of %s', async (_, client) => {
    for (const command of ['sum', 'asyncSum', 'streamSum']) {
      expect(await post(`/call/${client}/${command}`, [1, 2, 3, 4, 5])).toEqual({ status: 200, body: 15 });
    }
  });

  it('answers concurrent requests, each with its own sum', async () => {
    const lists = Array.from({ length: 10 }, (_, list) =>
      Array.from({ length: 10 }, (_item, at) => 10 * list + at + 1),
    );
    expect(await post('/concurrent', lists)).toEqual({ status: 200, body: true });
  });

  it('gets every value of a streamed answer', async () => {
    expect(await post('/stream', [1, 2, 3, 4, 5])).toEqual({ status: 200, body: 15 });
  });

  it('answers 500 at once when no server has the pattern', async () => {
    const start = Date.now();
    expect((await post('/call/module/unknown', [1])).status).toBe(500);
    expect(Date.now() - start).toBeLessThan(5_000);
  });

  it('gets the error of an RpcException as it was thrown, and no text of any other error', async () => {
    const errorOf = async (cmd: string): Promise<unknown> =>
      ((await post('/error/module', { cmd })).body as { error: unknown }).error;
    expect(await errorOf('rpc-exception')).toEqual({ status: 'error', message: 'test' });
    expect(await errorOf('rpc-exception-object')).toEqual({ code: 42, details: { field: 'amount' } });
    expect(await errorOf('plain-error')).toEqual({ status: 'error', message: 'Internal server error' });
  });

  it('gets an error as the serializeError of its client class makes it', async () => {
    const kind = async (client: ClientName): Promise<unknown> =>
      ((await post(`/error/${client}`, { cmd: 'plain-error' })).body as { isRpcException: boolean }).isRpcException;
    expect([await kind('wrapping'), await kind('module')]).toEqual([true, false]);
  });

  it('passes an event to every handler of its pattern, and the route gets the receipt', async () => {
    const { status, body } = await post('/notify', { text: 'hello' });
    expect([status, body]).toEqual([200, expect.objectContaining({ streamKey: 'notification', shardId: 0 })]);
    await until('both are notified', () => notified.length === 2);
    expect(notified.sort()).toEqual(['first hello', 'second hello']);
  });

  it('sends a record with headers, and gets data and headers back', async () => {
    const data = { items: [1, 2, 3] };
    expect(await post('/record', data)).toEqual({ status: 200, body: { data, version: '1.0.0' } });
  });
});

it('a microservice whose options come from a provider serves the handlers', async () => {
  @Injectable()
  class Options {
    readonly strategy = new ServerRedisStreams({ ...clientOptions(), group: GROUP });
  }
  @Module({ providers: [Options], controllers: [onRequest({ cmd: 'sum' }, sum)] })
  class RpcModule {}

  const app = await NestFactory.createMicroservice<AsyncMicroserviceOptions>(RpcModule, {
    ...QUIET,
    inject: [Options],
    useFactory: ({ strategy }: Options) => ({ strategy }),
  });
  nest.closeLater(app);
  await app.listen();

  expect(await lastValueFrom(nest.client().send({ cmd: 'sum' }, [1, 2, 3, 4, 5]))).toBe(15);
});

it('raw bytes are answered as they are, each to its own request, with serializers of bytes', async () => {
  const bytes = {
    serializer: { serialize: (value: unknown) => value },
    deserializer: { deserialize: (value: Uint8Array) => value },
  };
  const answer = async (name: Buffer): Promise<Buffer> => {
    if (name.toString() === 'bytes') return Buffer.from([0, 1, 2, 3, 255]);
    if (name.toString() === 'slow') await new Promise((resolve) => setTimeout(resolve, 50));
    return Buffer.from(`${name.toString()}-replied`);
  };
  await nest.serve(onRequest('binary', answer), bytes);
  const client = nest.client(bytes);
  const ask = (name: string): Promise<Uint8Array[]> =>
    lastValueFrom(client.send<Uint8Array>('binary', Buffer.from(name)).pipe(toArray()));

  const answers = await Promise.all(['slow', 'fast', 'bytes'].map(ask));
  expect(answers.map(([value]) => Buffer.from(value as Uint8Array))).toEqual([
    Buffer.from('slow-replied'),
    Buffer.from('fast-replied'),
    Buffer.from([0, 1, 2, 3, 255]),
  ]);
});
