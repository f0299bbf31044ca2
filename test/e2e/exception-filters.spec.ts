import { describe, expect, it } from '@jest/globals';
import {
  BadRequestException,
  Catch,
  Controller,
  HttpException,
  HttpStatus,
  Injectable,
  Scope,
  UseFilters,
  UseInterceptors,
  UsePipes,
} from '@nestjs/common';
import type {
  ArgumentsHost,
  CallHandler,
  ExceptionFilter,
  ExecutionContext,
  INestApplication,
  PipeTransform,
  Type,
} from '@nestjs/common';
import { APP_FILTER, BaseExceptionFilter, HttpAdapterHost } from '@nestjs/core';
import { EventPattern, MessagePattern, RpcException } from '@nestjs/microservices';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { EMPTY, NEVER, firstValueFrom, of, throwError, timer } from 'rxjs';
import { map } from 'rxjs/operators';
import type { Observable } from 'rxjs';

import {
  RedisStreamsDeadLetterException,
  RedisStreamsRetryException,
  RedisStreamsContext,
  ServerRedisStreams,
} from '../../lib/index.js';
import type { ServerRedisStreamsOptions } from '../../lib/index.js';
import { moduleOf, onBatch, onEvent } from '../support/controllers.js';
import { GROUP, LogLines, createApp, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** As on docs.nestjs.com, "Catch everything". */
@Catch()
class CatchEverythingFilter implements ExceptionFilter {
  constructor(private readonly httpAdapterHost: HttpAdapterHost) {}

  catch(exception: unknown, host: ArgumentsHost): void {
    const { httpAdapter } = this.httpAdapterHost;
    const ctx = host.switchToHttp();
    const httpStatus = exception instanceof HttpException ? exception.getStatus() : HttpStatus.INTERNAL_SERVER_ERROR;
    const responseBody = {
      statusCode: httpStatus,
      timestamp: new Date().toISOString(),
      path: httpAdapter.getRequestUrl(ctx.getRequest()) as string,
    };
    httpAdapter.reply(ctx.getResponse(), responseBody, httpStatus);
  }
}

/** As on docs.nestjs.com, "Inheritance". */
@Catch()
class AllExceptionsFilter extends BaseExceptionFilter {}

/** As on docs.nestjs.com, "Exception filters". */
@Catch(HttpException)
class HttpExceptionFilter implements ExceptionFilter {
  catch(exception: HttpException, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<{ status(code: number): { json(body: object): void } }>();
    response.status(exception.getStatus()).json({ statusCode: exception.getStatus() });
  }
}

/** As on docs.nestjs.com, "Exception filters" of microservices. */
@Catch(RpcException)
class RpcFilter implements ExceptionFilter {
  catch(exception: RpcException): Observable<never> {
    return throwError(() => exception.getError());
  }
}

@Catch()
class SilentFilter implements ExceptionFilter {
  catch(): void {
    // Reports, and returns nothing: Nest then goes to its own filter.
  }
}

@Catch()
class ReplacingFilter implements ExceptionFilter {
  catch(): Observable<never> {
    return throwError(() => ({ status: 'error', message: 'Something went wrong' }));
  }
}

/** What a ValidationPipe throws. */
const INVALID = ['name must be a string', 'amount must be a positive number'];
const validating: PipeTransform = {
  transform: (value: unknown) => {
    if (value === 'invalid') throw new BadRequestException(INVALID);
    return value;
  },
};

/** Throws what its message names. */
function failing(pattern: string): Type {
  @Controller()
  class FailingController {
    @UsePipes(validating)
    @EventPattern<string>(pattern)
    handle(kind: unknown): void {
      if (kind === 'error') throw new TypeError('the database is down');
      if (kind === 'rpc') throw new RpcException({ code: 'E7', message: 'no stock' });
      if (kind === 'http') throw new HttpException({ statusCode: 409, message: 'taken' }, 409);
      if (kind === 'retry') throw new RedisStreamsRetryException(0);
      if (kind === 'dead') throw new RedisStreamsDeadLetterException('of no use');
    }
  }
  return FailingController;
}

interface Hybrid {
  readonly log: LogLines;
  readonly app: INestApplication;
}

/** An HTTP application with a connected microservice, which inherits its filters. */
async function hybrid(
  parts: Parameters<typeof moduleOf>[0],
  configure: (app: INestApplication) => void = () => undefined,
  options: Partial<ServerRedisStreamsOptions> = {},
): Promise<Hybrid> {
  const log = new LogLines();
  const app = await createApp(nest, moduleOf(parts));
  configure(app);
  const strategy = new ServerRedisStreams({
    connection: nest.url,
    group: GROUP,
    logger: log,
    blockTimeout: 1_000,
    autoCommitInterval: 10,
    ...options,
  });
  app.connectMicroservice<MicroserviceOptions>({ strategy }, { inheritAppConfig: true });
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  return { log, app };
}

const TWICE = { retry: { attempts: 2, delay: 10 } } as const;

/** The dead letters of the kinds of failures above, by kind. */
async function deadLettersOf(pattern: string): Promise<Record<string, Record<string, string>>> {
  const kinds = ['error', 'rpc', 'http', 'invalid', 'retry', 'dead'];
  for (const kind of kinds) await nest.emit(pattern, kind);
  await until('all are dead letters', async () => (await nest.redis.xlen(`${pattern}.dead`)) === kinds.length);
  await nest.untilSettled(pattern);
  const entries = await nest.entries(`${pattern}.dead`);
  return Object.fromEntries(entries.map(({ fields }) => [JSON.parse(fields['msg'] as string), headersOf(fields)]));
}

function headersOf(fields: Record<string, string>): Record<string, string> {
  const prefix = 'h:dead-letter-';
  const headers = Object.entries(fields).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(headers.map(([name, value]) => [name.slice(prefix.length), value]));
}

const EXPECTED = {
  error: { 'error-name': 'TypeError', 'error-message': 'the database is down', reason: 'failed 2 times' },
  rpc: { 'error-message': 'no stock', reason: 'failed 2 times' },
  http: { 'error-name': 'HttpException', reason: 'failed 2 times' },
  invalid: {
    'error-name': 'BadRequestException',
    'error-message': `Bad Request Exception: ${INVALID.join('; ')}`,
    reason: `cannot be cured by trying again: Bad Request Exception: ${INVALID.join('; ')}`,
    'delivery-count': '1',
  },
  retry: { 'error-name': 'RedisStreamsRetryException', reason: 'failed 2 times' },
  dead: { 'error-name': 'RedisStreamsDeadLetterException', reason: 'of no use', 'delivery-count': '1' },
};

/** Each way in which an application may set a filter. */
const PLACES: Array<[place: string, parts: (filter: Type, pattern: string) => Parameters<typeof hybrid>]> = [
  [
    'for the whole application',
    (filter, pattern) => [
      { controllers: [failing(pattern)] },
      (app) => {
        const instance = filter.length > 0 ? app.get(HttpAdapterHost) : undefined;
        const argument = filter === AllExceptionsFilter ? instance?.httpAdapter : instance;
        app.useGlobalFilters(new filter(argument));
      },
      TWICE,
    ],
  ],
  [
    'as the provider APP_FILTER',
    (filter, pattern) => [
      { controllers: [failing(pattern)], providers: [{ provide: APP_FILTER, useClass: filter }] },
      undefined,
      TWICE,
    ],
  ],
  [
    'as a request-scoped provider APP_FILTER',
    (filter, pattern) => [
      {
        controllers: [failing(pattern)],
        providers: [{ provide: APP_FILTER, useClass: filter, scope: Scope.REQUEST }],
      },
      undefined,
      TWICE,
    ],
  ],
  [
    'for a controller',
    (filter, pattern) => {
      const controller = failing(pattern);
      UseFilters(filter)(controller);
      return [{ controllers: [controller] }, undefined, TWICE];
    },
  ],
  [
    'for a method',
    (filter, pattern) => {
      const controller = failing(pattern);
      const { prototype } = controller as { prototype: object };
      UseFilters(filter)(prototype, 'handle', Object.getOwnPropertyDescriptor(prototype, 'handle') as never);
      return [{ controllers: [controller] }, undefined, TWICE];
    },
  ],
];

const FILTERS: Array<[name: string, filter: Type]> = [
  ['the catch-all filter of the Nest documentation', CatchEverythingFilter],
  ['a filter that inherits from the HTTP filter of Nest', AllExceptionsFilter],
  ['the HTTP exception filter of the Nest documentation', HttpExceptionFilter],
  ['the RPC exception filter of the Nest documentation', RpcFilter],
  ['a filter that returns nothing', SilentFilter],
  ['a filter that replaces every error', ReplacingFilter],
];

describe.each(FILTERS)('with %s', (_, filter) => {
  it.each(PLACES)('%s, dead letters have the error of the handler', async (_place, parts) => {
    const pattern = uniqueName('filtered');
    const { log } = await hybrid(...parts(filter, pattern));

    expect(await deadLettersOf(pattern)).toMatchObject(EXPECTED);
    expect(log.warnings.filter((line) => line.includes('exception filter'))).toEqual([]);
  });
});

it('in a microservice alone, where no HTTP adapter exists, dead letters have the error of the handler, too', async () => {
  const pattern = uniqueName('alone');
  const controllers = [failing(pattern)];
  await nest.serve({ controllers, configure: (app) => app.useGlobalFilters(new AllExceptionsFilter()) }, TWICE);

  expect(await deadLettersOf(pattern)).toMatchObject(EXPECTED);
});

it('the error of an Observable, and that of a request-scoped controller, are noted before a filter as well', async () => {
  const [observed, scoped] = [uniqueName('observed'), uniqueName('scoped')];

  @Injectable({ scope: Scope.REQUEST })
  class Broken {
    constructor() {
      throw new RangeError('no tenant');
    }
  }
  @Controller()
  class ScopedController {
    constructor(readonly broken: Broken) {}

    @EventPattern<string>(scoped)
    handle(): void {
      // Never reached.
    }
  }
  const later = timer(1).pipe(
    map(() => {
      throw new RangeError('later');
    }),
  );
  await hybrid(
    { controllers: [ScopedController, onEvent(observed, () => later)], providers: [Broken] },
    (app) => app.useGlobalFilters(new CatchEverythingFilter(app.get(HttpAdapterHost))),
    { retry: false },
  );
  for (const pattern of [observed, scoped]) await nest.emit(pattern, 1);

  for (const [pattern, text] of [
    [observed, 'later'],
    [scoped, 'no tenant'],
  ] as const) {
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    const [dead] = await nest.entries(`${pattern}.dead`);
    expect(headersOf(dead?.fields ?? {})).toMatchObject({ 'error-name': 'RangeError', 'error-message': text });
  }
});

it('an asynchronous filter that returns an error lets the handler fail, behind an interceptor too', async () => {
  const [alone, intercepted, severalOf, request] = ['alone', 'intercepted', 'several', 'request'].map((name) =>
    uniqueName(name),
  ) as [string, string, string, string];
  @Catch()
  class AuditFilter implements ExceptionFilter {
    async catch(): Promise<Observable<never>> {
      return Promise.resolve(throwError(() => new RpcException('of the filter')));
    }
  }
  const pass = { intercept: (_: ExecutionContext, next: CallHandler) => next.handle() };
  const fail = (): never => {
    throw new Error('of the handler');
  };
  @Controller()
  @UseInterceptors(pass)
  class InterceptedController {
    @EventPattern<string>(intercepted)
    event(): void {
      fail();
    }
    @MessagePattern<string>(request)
    request(): void {
      fail();
    }
  }
  const { log } = await nest.serve(
    {
      controllers: [onEvent(alone, fail), InterceptedController, onEvent(severalOf, fail), onEvent(severalOf, () => 1)],
      configure: (app) => app.useGlobalFilters(new AuditFilter()),
    },
    { retry: false },
  );
  for (const pattern of [alone, intercepted, severalOf]) {
    await nest.emit(pattern, 1);
    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    const [dead] = await nest.entries(`${pattern}.dead`);
    expect(headersOf(dead?.fields ?? {})).toMatchObject({ 'error-message': 'of the handler' });
  }
  expect(log.warnings.filter((line) => line.includes('counts as handled'))).toEqual([]);
  await expect(firstValueFrom(nest.client().send(request, 1))).rejects.toMatchObject({ message: 'of the filter' });
});

describe('a filter that ends an error without one', () => {
  it.each<[what: string, result: () => unknown]>([
    ['EMPTY', () => EMPTY],
    ['an Observable of a value', () => of('handled')],
    ['a promise of nothing', () => Promise.resolve()],
    ['a promise of EMPTY', () => Promise.resolve(EMPTY)],
  ])('by %s acknowledges the message, with one warning for each handler', async (_, result) => {
    const [one, two] = [uniqueName('one'), uniqueName('two')];
    @Catch()
    class EndingFilter implements ExceptionFilter {
      catch(): unknown {
        return result();
      }
    }
    let failed = 0;
    const fail = (): never => {
      failed += 1;
      throw new Error('expected');
    };
    const { log } = await nest.serve({
      controllers: [onEvent(one, fail), onEvent(two, fail)],
      configure: (app) => app.useGlobalFilters(new EndingFilter()),
    });
    for (const pattern of [one, two, one, one, two]) await nest.emit(pattern, 1);
    await until('all have failed', () => failed === 5);
    for (const pattern of [one, two]) await nest.untilSettled(pattern);

    expect(failed).toBe(5);
    expect(log.errors).toEqual([]);
    expect(log.warnings).toHaveLength(2);
    for (const pattern of [one, two]) {
      expect(log.warnings.filter((line) => line.includes(`'${pattern}'`))).toEqual([
        expect.stringMatching(/^An exception filter .* counts as handled.*: expected$/),
      ]);
    }
  });

  it('does not end a retry or a dead letter for which the handler asked', async () => {
    const pattern = uniqueName('asked');
    const seen: string[] = [];
    @Catch()
    class EndingFilter implements ExceptionFilter {
      catch(): Observable<never> {
        return EMPTY;
      }
    }
    const { log } = await nest.serve({
      controllers: [
        onEvent(pattern, (kind: string, context) => {
          seen.push(`${kind} ${context.getDeliveryCount()}`);
          if (kind === 'dead') throw new RedisStreamsDeadLetterException('of no use');
          if (context.getDeliveryCount() === 1) throw new RedisStreamsRetryException(0);
        }),
      ],
      configure: (app) => app.useGlobalFilters(new EndingFilter()),
    });
    for (const kind of ['again', 'dead']) await nest.emit(pattern, kind);
    await until('both were handled', () => seen.length === 3);
    await nest.untilSettled(pattern);

    expect(seen.sort()).toEqual(['again 1', 'again 2', 'dead 1']);
    expect(await nest.redis.xlen(`${pattern}.dead`)).toBe(1);
    expect(log.errors).toEqual([]);
  });

  it('may settle the message by its context, without a warning', async () => {
    const pattern = uniqueName('settled');
    @Catch()
    class SettlingFilter implements ExceptionFilter {
      catch(error: Error, host: ArgumentsHost): Observable<never> {
        host.switchToRpc().getContext<RedisStreamsContext>().deadLetter(error.message);
        return EMPTY;
      }
    }
    const { log } = await nest.serve({
      controllers: [
        onEvent(pattern, () => {
          throw new Error('seen by the filter');
        }),
      ],
      configure: (app) => app.useGlobalFilters(new SettlingFilter()),
    });
    await nest.emit(pattern, 1);

    await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
    expect(log.warnings.filter((line) => line.includes('exception filter'))).toEqual([]);
  });

  it('is reported for a handler of batches, too', async () => {
    const pattern = uniqueName('batch');
    @Catch()
    class EndingFilter implements ExceptionFilter {
      catch(): Observable<never> {
        return EMPTY;
      }
    }
    const fail = (): never => {
      throw new Error('expected');
    };
    const { log } = await nest.serve({
      controllers: [onBatch(pattern, fail, { batch: { size: 2 } })],
      configure: (app) => app.useGlobalFilters(new EndingFilter()),
    });
    for (const data of [1, 2, 3]) await nest.emit(pattern, data);

    await until('it is reported', () => log.warnings.length > 0);
    await nest.untilSettled(pattern);
    expect(log.warnings).toEqual([expect.stringContaining(`'${pattern}'`)]);
  });
});

it('a filter may ask for a retry or a dead letter by throwing the exception', async () => {
  const pattern = uniqueName('mapped');
  @Catch()
  class MappingFilter implements ExceptionFilter {
    catch(error: Error): Observable<never> {
      throw new RedisStreamsDeadLetterException(`mapped: ${error.message}`);
    }
  }
  const { log } = await nest.serve({
    controllers: [
      onEvent(pattern, () => {
        throw new Error('unknown customer');
      }),
    ],
    configure: (app) => app.useGlobalFilters(new MappingFilter()),
  });
  await nest.emit(pattern, 1);

  await until('it is a dead letter', async () => (await nest.redis.xlen(`${pattern}.dead`)) === 1);
  const [dead] = await nest.entries(`${pattern}.dead`);
  expect(headersOf(dead?.fields ?? {})).toMatchObject({ reason: 'mapped: unknown customer', 'delivery-count': '1' });
  expect(log.errors).toEqual([]);
});

it('when one of several handlers of a message is ended by a filter, the error of the other one decides', async () => {
  const pattern = uniqueName('several');
  @Catch(RangeError)
  class EndingFilter implements ExceptionFilter {
    catch(): Observable<never> {
      return EMPTY;
    }
  }
  let isHealed = false;
  let handled = 0;
  const { log } = await nest.serve(
    {
      controllers: [
        onEvent(pattern, () => {
          throw new RangeError('ended');
        }),
        onEvent(pattern, async () => {
          await Promise.resolve();
          handled += 1;
          if (!isHealed) throw new Error('not yet');
        }),
      ],
      configure: (app) => app.useGlobalFilters(new EndingFilter()),
    },
    { retry: { delay: 20 } },
  );
  await nest.emit(pattern, 1);
  await until('it is handled again', () => handled >= 2);
  isHealed = true;
  await nest.untilSettled(pattern);
  expect(log.warnings.filter((line) => line.includes('exception filter'))).toHaveLength(1);
});

it('a retry that the handler asked for is no error in the log, and no `error` event', async () => {
  const pattern = uniqueName('asked');
  let handled = 0;
  const { log, server } = await nest.serve(
    onEvent(pattern, () => {
      handled += 1;
      if (handled < 3) throw new RedisStreamsRetryException(0);
    }),
  );
  const events: string[] = [];
  server.on('error', (error) => void events.push(`error: ${error.message}`));
  server.on('retry', ({ delay }) => void events.push(`retry after ${delay}`));
  await nest.emit(pattern, 1);
  await until('it succeeds', () => handled === 3);
  await nest.untilSettled(pattern);

  expect(log.errors).toEqual([]);
  expect(events).toEqual(['retry after 0', 'retry after 0']);
  expect(log.details.filter((line) => line.includes('threw RedisStreamsRetryException'))).toHaveLength(2);
});

it('a retry that is asked for where nothing is pending is reported as ignored', async () => {
  const pattern = uniqueName('ignored');
  const { log } = await nest.serve(
    onEvent(pattern, () => {
      throw new RedisStreamsRetryException();
    }),
    { mode: 'real-time' },
  );
  await nest.emit(pattern, 1);

  await until('it is reported', () => log.warnings.length === 1);
  expect(log.warnings[0]).toMatch(/^RedisStreamsRetryException ignored .* not pending on the server$/);
});

it('the log line and the event of a dead letter say what was invalid', async () => {
  const pattern = uniqueName('invalid');
  const { log, server } = await nest.serve(failing(pattern));
  const reasons: string[] = [];
  server.on('deadLetter', ({ reason }) => void reasons.push(reason));
  await nest.emit(pattern, 'invalid');
  await until('it is a dead letter', () => reasons.length === 1);

  for (const text of [reasons[0], log.errors[0], log.warnings[0]]) {
    for (const line of INVALID) expect(text).toContain(line);
  }
});

it('a filter that never ends keeps its message pending and lets others be handled', async () => {
  const pattern = uniqueName('hanging');
  let handled = 0;
  @Catch()
  class HangingFilter implements ExceptionFilter {
    catch(): Observable<never> {
      return NEVER;
    }
  }
  await nest.serve(
    {
      controllers: [
        onEvent(pattern, (kind: string) => {
          if (kind === 'error') throw new Error('hangs');
          handled += 1;
        }),
      ],
      configure: (app) => app.useGlobalFilters(new HangingFilter()),
    },
    { shutdownTimeout: 10 },
  );
  for (const kind of ['error', 'good', 'good']) await nest.emit(pattern, kind);
  await until('the others are handled', () => handled === 2);
  await until('they are acknowledged', async () => (await nest.pending(pattern)) === 1);
});
