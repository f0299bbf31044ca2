import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { ForbiddenException, Injectable, Logger, Module, UnauthorizedException } from '@nestjs/common';
import type { CanActivate, ExecutionContext, INestApplication } from '@nestjs/common';
import { InvalidOptionError } from '../../lib/index.js';
import { RedisStreamsConsoleModule } from '../../packages/console/src/index.js';
import type { RedisStreamsConsoleOptions } from '../../packages/console/src/index.js';
import { ADAPTERS, ConsoleApp } from '../support/console-app.js';
import type { Adapter } from '../support/console-app.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

const start = (adapter: Adapter, options: RedisStreamsConsoleOptions = {}): Promise<ConsoleApp> =>
  ConsoleApp.start({ guards: [], connection: streams.url, ...options }, { adapter });

/** Every kind of answer, and whether it is one of success. */
const ANSWERS = [
  ['', 200],
  ['stream?stream=a', 200],
  ['nothing', 404],
  ['api/session', 200],
  ['api/messages', 400],
  ['api/message?stream=a&id=1-0', 404],
] as const;

const CHANGES = [
  ['api/groups/pause', { stream: 'orders', group: 'workers' }],
  ['api/groups/resume', { stream: 'orders', group: 'workers' }],
  ['api/groups/position', { stream: 'orders', group: 'workers', to: 'end', dryRun: false }],
  ['api/dead-letters/redrive', { stream: 'orders', dryRun: false }],
  ['api/dead-letters/delete', { stream: 'orders', dryRun: false }],
  ['api/delayed/cancel', { stream: 'orders', shard: 0, id: 'x@1' }],
] as const;

/** The answer must have the headers that restrict browsers. */
function expectHeaders(headers: Headers): void {
  expect(headers.get('content-security-policy')).toBe(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; " +
      "frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  );
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('referrer-policy')).toBe('no-referrer');
  expect(headers.get('cache-control')).toMatch(/no-store/);
  expect(headers.get('access-control-allow-origin')).toBeNull();
}

describe.each(ADAPTERS)('the console on %s', (adapter) => {
  afterEach(() => void jest.restoreAllMocks());

  it('gives every answer the headers that restrict browsers, also those of errors and event streams', async () => {
    await using console = await start(adapter);
    const answers = await Promise.all(
      ANSWERS.map(async ([path, status]) => ({ path, status, answer: await console.get(path) })),
    );
    for (const { path, status, answer } of answers) expect([path, answer.status]).toEqual([path, status]);
    await using viewer = await console.watch({ page: 'health' });
    for (const headers of [...answers.map(({ answer }) => answer.headers), viewer.headers]) expectHeaders(headers);
  });

  const refusing: CanActivate = {
    canActivate: () => {
      throw new ForbiddenException();
    },
  };
  const faulty: CanActivate = {
    canActivate: () => {
      throw new TypeError('a fault of a guard');
    },
  };

  it.each([
    ['refuses', refusing, 403],
    ['fails', faulty, 500],
  ])('gives answers these headers when a guard %s', async (_what, guard, expected) => {
    jest.spyOn(Logger.prototype, 'error').mockImplementation(() => undefined);
    const connection = streams.url;
    await using console = await start(adapter, { guards: [guard] });
    for (const path of ['', 'stream', 'assets/x.js', 'api/session', 'api/live?view={"page":"health"}']) {
      const { status, headers } = await console.get(path);
      expect([path, status]).toEqual([path, expected]);
      expectHeaders(headers);
    }
    // Global guards come before those of the console.
    const configure = (app: INestApplication): void => void app.useGlobalGuards(guard);
    await using guarded = await ConsoleApp.start({ guards: [], connection }, { adapter, configure });
    for (const path of ['api/session', 'api/live?view={"page":"health"}']) {
      const { status, headers } = await guarded.get(path);
      expect([path, status]).toEqual([path, expected]);
      expectHeaders(headers);
    }
    const { status, headers } = await guarded.post('api/groups/pause', {});
    expect(status).toBe(expected);
    expectHeaders(headers);
  });

  it('is read-only unless the option says otherwise: every change is refused, and Redis stays as it is', async () => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'x');
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0');
    await streams.redis.xadd('orders.dead', '1-0', 'msg', 'x');
    await using console = await start(adapter);
    for (const [path, body] of CHANGES) {
      const { status, body: failure } = await console.post(path, body);
      expect([path, status, failure]).toEqual([
        path,
        403,
        { message: 'The console is read-only; the option readOnly: false permits changes', code: null },
      ]);
    }
    expect((await streams.redis.keys('*')).sort()).toEqual(['orders', 'orders.dead']);
  });

  it.each<[string, Record<string, string | undefined>]>([
    ['without the own header', { 'x-nrs-console': undefined }],
    ['with another value of it', { 'x-nrs-console': 'true' }],
    ['from another site', { 'sec-fetch-site': 'cross-site' }],
    ['from another host of the same site', { 'sec-fetch-site': 'same-site' }],
    ['without an origin', { 'sec-fetch-site': undefined }],
    ['from another origin', { 'sec-fetch-site': undefined, origin: 'http://evil.test' }],
    ['from another port', { 'sec-fetch-site': undefined, origin: 'http://127.0.0.1:1' }],
    ['from an opaque origin', { 'sec-fetch-site': undefined, origin: 'null' }],
    ['as a form', { 'content-type': 'application/x-www-form-urlencoded' }],
    ['as text', { 'content-type': 'text/plain' }],
    ['as text that looks like JSON', { 'content-type': 'text/plain; application/json' }],
  ])('refuses a change %s', async (_case, headers) => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'x');
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0');
    await using console = await start(adapter, { readOnly: false });
    for (const [path, body] of CHANGES) {
      // Fastify refuses some types of bodies before the guards run.
      expect([path, [403, 415]]).toEqual([
        path,
        expect.arrayContaining([(await console.post(path, body, headers)).status]),
      ]);
    }
    expect(await streams.redis.keys('*')).toEqual(['orders']);
  });

  it('takes a change from its own origin, where the browser says it in one way or the other', async () => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'x');
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0');
    await using console = await start(adapter, { readOnly: false });
    const group = { stream: 'orders', group: 'workers' };
    expect((await console.post('api/groups/pause', group)).status).toBe(200);
    const { origin } = new URL(console.urlOf(''));
    const headers = { 'sec-fetch-site': undefined, origin, 'content-type': 'application/json; charset=utf-8' };
    expect((await console.post('api/groups/resume', group, headers)).status).toBe(200);
  });

  it('refuses reads that pages of other sites send, and lets links to its pages work', async () => {
    await using console = await start(adapter);
    for (const path of ['api/session', 'api/messages?stream=a', 'api/live?view={"page":"health"}']) {
      for (const site of ['cross-site', 'same-site'])
        expect([path, (await console.get(path, { 'sec-fetch-site': site })).status]).toEqual([path, 403]);
    }
    expect((await console.get('api/session', { 'sec-fetch-site': 'same-origin' })).status).toBe(200);
    expect((await console.get('', { 'sec-fetch-site': 'cross-site' })).status).toBe(200);
  });

  it('has the guards of the application before everything, and knows their user', async () => {
    const seen: string[] = [];
    const guard: CanActivate = {
      canActivate: (context) => {
        const request = context
          .switchToHttp()
          .getRequest<{ url: string; headers: Record<string, string>; user?: object }>();
        seen.push(request.url);
        request.user = { email: 'ada@example.test', id: 7 };
        if (request.headers['x-admin'] !== 'yes') throw new ForbiddenException('admins only');
        return true;
      },
    };
    await using console = await start(adapter, { guards: [guard], readOnly: false });
    for (const path of [
      '',
      'stream',
      'assets/x.js',
      'api/session',
      'api/live?view={"page":"health"}',
      'api/messages?stream=a',
    ])
      expect([path, (await console.get(path)).status]).toEqual([path, 403]);
    for (const [path, body] of CHANGES) expect([path, (await console.post(path, body)).status]).toEqual([path, 403]);
    expect(seen.length).toBe(6 + CHANGES.length);
    expect((await console.get('api/session')).body).toEqual({ message: 'admins only', code: null });
    const session = (await console.get('api/session', { 'x-admin': 'yes' })).body;
    expect(session).toMatchObject({ user: 'ada@example.test', readOnly: false });
  });

  it('can be entered with a name and password, for which the browser asks', async () => {
    interface Answer {
      header(name: string, value: string): unknown;
    }
    const guard: CanActivate = {
      canActivate: (context) => {
        const [request, response] = context.getArgs<[{ headers: { authorization?: string }; user?: object }, Answer]>();
        const [name, password] = Buffer.from(request.headers.authorization?.slice(6) ?? '', 'base64')
          .toString()
          .split(':');
        request.user = { username: name };
        if (name === 'admin' && password === 'pw') return true;
        response.header('www-authenticate', 'Basic realm="console"');
        throw new UnauthorizedException();
      },
    };
    await using console = await start(adapter, { guards: [guard] });
    for (const path of ['', 'api/session']) {
      const { status, headers } = await console.get(path);
      expect([path, status, headers.get('www-authenticate')]).toEqual([path, 401, 'Basic realm="console"']);
    }
    const authorization = `Basic ${Buffer.from('admin:pw').toString('base64')}`;
    expect((await console.get('', { authorization })).status).toBe(200);
    expect((await console.get('api/session', { authorization })).body).toMatchObject({ user: 'admin' });
  });

  it('makes guards with the providers of the modules that it imports', async () => {
    @Injectable()
    class Admins {
      readonly names = ['ada'];
    }
    @Module({ providers: [Admins], exports: [Admins] })
    class AdminsModule {}
    @Injectable()
    class AdminGuard implements CanActivate {
      readonly #admins: Admins;
      constructor(admins: Admins) {
        this.#admins = admins;
      }
      canActivate(context: ExecutionContext): boolean {
        const { headers } = context.switchToHttp().getRequest<{ headers: Record<string, string> }>();
        return this.#admins.names.includes(headers['x-user'] ?? '');
      }
    }
    await using console = await start(adapter, { guards: [AdminGuard], imports: [AdminsModule] });
    expect((await console.get('api/session')).status).toBe(403);
    expect((await console.get('api/session', { 'x-user': 'ada' })).status).toBe(200);
  });

  it('hides payloads and does not search them, unless the option says otherwise', async () => {
    await streams.redis.xadd('orders', '1-0', 'msg', 'secret', 'h:key', 'k');
    await streams.redis.xadd('orders.dead', '1-0', 'msg', 'secret');
    await using console = await start(adapter);
    for (const path of [
      'messages?stream=orders',
      'message?stream=orders&id=1-0',
      'dead-letters?stream=orders',
      'dead-letter?stream=orders&id=1-0',
    ]) {
      const { status, text } = await console.get(`api/${path}`);
      expect([path, status]).toEqual([path, 200]);
      expect(text).not.toContain('secret');
      expect(text).toContain('"payload":{"bytes":6,"text":null,"isBinary":false,"isCut":false}');
    }
    const { status, body } = await console.get('api/messages?stream=orders&text=secret');
    expect([status, body]).toEqual([
      400,
      { message: "'text' cannot be searched: the console does not show payloads", code: null },
    ]);
  });
});

describe('the log of changes', () => {
  afterEach(() => void jest.restoreAllMocks());

  it('names who has changed what, with its outcome, in one line whatever the names contain', async () => {
    const lines: string[] = [];
    jest.spyOn(Logger.prototype, 'log').mockImplementation((line: unknown) => void lines.push(String(line)));
    jest.spyOn(Logger.prototype, 'warn').mockImplementation((line: unknown) => void lines.push(String(line)));
    const guard: CanActivate = {
      canActivate: (context) => {
        const request = context.switchToHttp().getRequest<{ user?: unknown }>();
        request.user = { username: 'eve\nDone for user "ada": nothing' };
        return true;
      },
    };
    await streams.redis.xadd('orders', '1-0', 'msg', 'x');
    await streams.redis.xgroup('CREATE', 'orders', 'workers', '0');
    await using console = await start('express', { guards: [guard], readOnly: false });
    lines.length = 0;
    await console.post('api/groups/pause', { stream: 'orders', group: 'workers' });
    await console.post('api/groups/pause', { stream: 'orders', group: 'a\nb' });
    await console.post('api/groups/position', { stream: 'orders', group: 'workers', to: 'end', dryRun: true });
    const user = String.raw`"eve\nDone for user \"ada\": nothing"`;
    expect(lines).toEqual([
      `Done for user ${user}: pause a group {"stream":"orders","group":"workers"}: {"isPaused":true}`,
      expect.stringContaining(
        String.raw`Failed for user ${user}: pause a group {"stream":"orders","group":"a\nb"}: "GroupMissing`,
      ),
    ]);
  });
});

describe('the options', () => {
  afterEach(() => void jest.restoreAllMocks());
  const environment = process.env['NODE_ENV'];
  afterEach(() => {
    process.env['NODE_ENV'] = environment;
  });

  it('must name guards in production; none on purpose is accepted', () => {
    process.env['NODE_ENV'] = 'production';
    expect(() => RedisStreamsConsoleModule.forRoot()).toThrow(
      'guards must be a list of guards where NODE_ENV is production; [] admits every caller',
    );
    expect(() => RedisStreamsConsoleModule.forRoot({ guards: [] })).not.toThrow();
  });

  it.each(['Production', 'PRODUCTION', 'production '])('must name guards where NODE_ENV is %j too', (name) => {
    process.env['NODE_ENV'] = name;
    expect(() => RedisStreamsConsoleModule.forRoot()).toThrow('where NODE_ENV is production');
  });

  it('without guards elsewhere are warned of', () => {
    const warn = jest.spyOn(Logger.prototype, 'warn').mockImplementation(() => undefined);
    RedisStreamsConsoleModule.forRoot({ path: 'x', readOnly: false });
    expect(warn.mock.calls).toEqual([[expect.stringMatching(/^The console at \/x has no guards: .* and change them/)]]);
  });

  it.each<[string, unknown]>([
    ['guards', { guards: true }],
    ['guards', { guards: ['admin'] }],
    ['guards', { guards: null }],
    ['guards', { guards: [null] }],
    ['guards', { guards: [{}] }],
    ['guards', { guards: [class NoGuard {}] }],
    ['guards', { guards: [() => true] }],
    ['guard', { guard: [] }],
    ['path', { path: '' }],
    ['path', { path: 'a/:b' }],
    ['path', { path: '../x' }],
    ['path', { path: 7 }],
    ['readOnly', { readOnly: 'false' }],
    ['showPayloads', { showPayloads: 1 }],
    ['streams', { streams: [] }],
    ['streams', { streams: 'orders' }],
    ['streams', { streams: [''] }],
    ['imports', { imports: {} }],
    ['name', { name: '' }],
    ['name', { name: 'x', connection: 'redis://127.0.0.1' }],
    ['health', { health: 'server' }],
    ['interval', { interval: 99 }],
    ['interval', { interval: '2s' }],
    ['options', 'console'],
  ])('refuse a wrong %s: %j', (option, options) => {
    const call = (): unknown => RedisStreamsConsoleModule.forRoot({ guards: [], ...(options as object) });
    const wrong = typeof options === 'object' ? call : () => RedisStreamsConsoleModule.forRoot(options as never);
    expect(wrong).toThrow(InvalidOptionError);
    expect(wrong).toThrow(expect.objectContaining({ option }));
  });

  it.each(['', '/', '//'])('refuse the root of the application as path: %j', (path) => {
    expect(() => RedisStreamsConsoleModule.forRoot({ guards: [], path })).toThrow(
      /^path must be a path below the root, where the console would take the routes of the application/,
    );
  });

  it('need Redis: a connection, or the module of the application', async () => {
    await expect(ConsoleApp.start({ guards: [] })).rejects.toThrow(
      'connection must be given in an application without a RedisStreamsModule',
    );
    await expect(ConsoleApp.start({ guards: [], name: 'other' })).rejects.toThrow(
      "RedisStreamsModule with the name 'other'",
    );
  });
});
