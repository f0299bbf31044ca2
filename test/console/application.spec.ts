import type { ServerResponse } from 'node:http';
import { describe, expect, it } from '@jest/globals';
import { ForbiddenException, ValidationPipe, VersioningType } from '@nestjs/common';
import type { INestApplication } from '@nestjs/common';
import { map } from 'rxjs';
import type { MessagePage } from '../../packages/console/src/api.js';
import { RedisStreamsConsoleModule } from '../../packages/console/src/index.js';
import { RedisStreamsModule } from '../../lib/index.js';
import { ADAPTERS, ConsoleApp } from '../support/console-app.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

/** The part of Fastify that sets headers for all routes. */
interface Hooks {
  addHook(
    name: 'onRequest',
    hook: (request: unknown, reply: { headers(all: object): unknown }) => Promise<void>,
  ): unknown;
}

/** What applications set for all of their routes. */
function configure(app: INestApplication): void {
  app.setGlobalPrefix('api');
  app.enableVersioning({ type: VersioningType.URI, defaultVersion: '1' });
  app.enableCors({ origin: true, credentials: true });
  app.useGlobalPipes(new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true }));
  app.useGlobalInterceptors({
    intercept: (_context, next) => next.handle().pipe(map((data: unknown) => ({ wrapped: data }))),
  });
  app.useGlobalFilters({
    catch: (_error, host) => {
      const response = host.switchToHttp().getResponse<{ status(code: number): { send(body: string): void } }>();
      response.status(418).send('teapot');
    },
  });
}

describe.each(ADAPTERS)('an application on %s with settings for all routes', (adapter) => {
  it('has a console that answers as its pages expect', async () => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'x');
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0');
    const options = { guards: [], connection: streams.url, readOnly: false };
    await using console = await ConsoleApp.start(options, { adapter, configure });
    const path = '/api/console/';
    expect((await console.get(path)).text).toMatch(/^<!doctype html>/i);
    const page = await console.json<MessagePage>(`${path}api/messages?stream=orders&unknown=1`);
    expect(page.messages.map(({ id }) => id)).toEqual(['1-0']);
    const body = { stream: 'orders', group: 'workers', to: 'end', dryRun: true, unknown: 1 };
    expect(await console.change(`${path}api/groups/position`, body)).toMatchObject({
      moves: [{ messages: { count: 0 } }],
    });
    expect(await console.get(`${path}api/messages`)).toMatchObject({
      status: 400,
      body: { message: "'stream' must be given", code: null },
    });
    expect(await console.get('/api/none')).toMatchObject({ status: 418 });
  });

  it('lets no page of another origin read the console, though it permits that for its own routes', async () => {
    await using console = await ConsoleApp.start({ guards: [], connection: streams.url }, { adapter, configure });
    const headers = { origin: 'https://other.test', 'sec-fetch-site': 'cross-site' };
    expect((await console.get('/api/console/api/session', headers)).status).toBe(403);
  });

  it('cannot take the headers away that restrict browsers, and keeps its own for its own routes', async () => {
    const own = { 'content-security-policy': 'default-src *', 'cache-control': 'public' };
    const setHeaders = (app: INestApplication): void => {
      if (adapter === 'fastify') {
        const fastify = app.getHttpAdapter().getInstance() as Hooks;
        fastify.addHook('onRequest', async (_request, reply) => void reply.headers(own));
      } else {
        app.use((_request: unknown, response: ServerResponse, next: () => void) => {
          for (const [name, value] of Object.entries(own)) response.setHeader(name, value);
          next();
        });
      }
    };
    await using console = await ConsoleApp.start(
      { guards: [], connection: streams.url },
      { adapter, configure: setHeaders },
    );
    const headersOf = async (path: string): Promise<Array<string | null>> => {
      const { headers } = await console.get(path);
      return [path, ...Object.keys(own).map((name) => headers.get(name))];
    };
    for (const path of ['', 'stream?stream=a', 'api/session', 'api/messages', 'api/live?view=1'])
      expect(await headersOf(path)).toEqual([path, expect.stringMatching(/^default-src 'none'/), 'no-store']);
    expect(await headersOf('/own')).toEqual(['/own', 'default-src *', 'public']);
  });

  it('has a global guard before the console too', async () => {
    await using console = await ConsoleApp.start(
      { guards: [], connection: streams.url },
      {
        adapter,
        configure: (app) =>
          void app.useGlobalGuards({
            canActivate: () => {
              throw new ForbiddenException('refused');
            },
          }),
      },
    );
    for (const path of ['', 'stream', 'assets/x.js', 'api/session', 'api/messages?stream=x'])
      expect([path, (await console.get(path)).status]).toEqual([path, 403]);
  });

  it('may have two consoles, with options of their own', async () => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'secret');
    await streams.redis.xadd('others', '1-0', 'msg', 'secret');
    const module = RedisStreamsModule.forRoot({ connection: streams.url });
    const second = RedisStreamsConsoleModule.forRoot({
      path: 'second',
      guards: [],
      showPayloads: true,
      streams: ['others'],
    });
    await using console = await ConsoleApp.start(
      { guards: [], streams: ['orders'] },
      { adapter, imports: [module, second] },
    );
    const answer = async (path: string) => {
      const { status, text } = await console.get(path);
      return [status, text.includes('secret')];
    };
    expect(await answer('/console/api/messages?stream=orders')).toEqual([200, false]);
    expect(await answer('/console/api/messages?stream=others')).toEqual([404, false]);
    expect(await answer('/second/api/messages?stream=others')).toEqual([200, true]);
    expect(await answer('/second/api/messages?stream=orders')).toEqual([404, false]);
  });
});
