import { describe, expect, it } from '@jest/globals';
import { Inject, Injectable, Module } from '@nestjs/common';
import type { INestApplicationContext, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { ClientsModule } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  InvalidOptionError,
  RedisStreamer,
  RedisStreamsModule,
  ServerRedisStreams,
  getRedisStreamsToken,
} from '../../lib/index.js';
import type { RedisStreamsModuleOptions, RedisStreamsOptionsFactory } from '../../lib/index.js';
import { moduleOf, onEvent, onRequest } from '../support/controllers.js';
import { freePort } from '../support/free-port.js';
import { GROUP, LogLines, QUIET, createApp, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

@Injectable()
class Checkout {
  readonly client: ClientRedisStreams;

  constructor(@InjectRedisStreams() client: ClientRedisStreams) {
    this.client = client;
  }
}

function options(extra: RedisStreamsModuleOptions = {}): RedisStreamsModuleOptions {
  return { connection: nest.url, logger: new LogLines(), blockTimeout: 1_000, autoCommitInterval: 10, ...extra };
}

async function start(
  imports: NonNullable<Parameters<typeof moduleOf>[0]['imports']>,
  providers: Type[] = [Checkout],
): Promise<INestApplicationContext> {
  const app = await NestFactory.createApplicationContext(moduleOf({ imports, providers }), QUIET);
  nest.closeLater(app);
  return app;
}

/** The client works, and is connected to the server of the test. */
async function expectToEmit(client: ClientRedisStreams): Promise<void> {
  const pattern = uniqueName('module');
  await firstValueFrom(client.emit(pattern, 1));
  expect(await nest.redis.xlen(pattern)).toBe(1);
}

class Settings {
  readonly url = nest.url;
}

@Injectable()
class SettingsFactory implements RedisStreamsOptionsFactory {
  createRedisStreamsOptions(): RedisStreamsModuleOptions {
    return options();
  }
}

@Module({ providers: [Settings, SettingsFactory], exports: [Settings, SettingsFactory] })
class SettingsModule {}

it('forRoot provides a client for @InjectRedisStreams', async () => {
  const app = await start([RedisStreamsModule.forRoot(options())]);

  expect(app.get(Checkout).client).toBe(app.get(getRedisStreamsToken()));
  await expectToEmit(app.get(Checkout).client);
});

it.each<[string, () => Parameters<typeof RedisStreamsModule.forRootAsync>[0]]>([
  ['useFactory, with injected providers', () => ({ imports: [SettingsModule], inject: [Settings], useFactory: async ({ url }: Settings) => options({ connection: url }) })], // prettier-ignore
  ['useClass', () => ({ useClass: SettingsFactory })],
  ['useExisting', () => ({ imports: [SettingsModule], useExisting: SettingsFactory })],
])('forRootAsync accepts %s', async (_name, asyncOptions) => {
  const app = await start([RedisStreamsModule.forRootAsync(asyncOptions())]);

  await expectToEmit(app.get(Checkout).client);
});

it('forRootAsync without any of these is refused by an error that names them', () => {
  expect(() => RedisStreamsModule.forRootAsync({})).toThrow(/useFactory, useClass or useExisting/);
});

it('several named connections coexist, each with its own client', async () => {
  @Injectable()
  class Audit {
    constructor(
      @InjectRedisStreams() readonly main: ClientRedisStreams,
      @InjectRedisStreams('audit') readonly audit: ClientRedisStreams,
      @InjectRedisStreams('archive') readonly archive: ClientRedisStreams,
    ) {}
  }
  const app = await start(
    [
      RedisStreamsModule.forRoot(options()),
      RedisStreamsModule.forRoot({ ...options({ keyPrefix: 'audit:' }), name: 'audit' }),
      RedisStreamsModule.forRootAsync({ name: 'archive', useFactory: () => options({ keyPrefix: 'archive:' }) }),
    ],
    [Audit],
  );
  const pattern = uniqueName('named');
  const { main, audit, archive } = app.get(Audit);
  for (const client of [main, audit, archive]) await firstValueFrom(client.emit(pattern, 1));

  expect(new Set([main, audit, archive]).size).toBe(3);
  expect((await nest.redis.keys('*')).sort()).toEqual([`archive:${pattern}`, `audit:${pattern}`, pattern].sort());
});

it('engine and server of a named connection are provided under its name', async () => {
  const app = await start([RedisStreamsModule.forRoot({ ...options({ group: GROUP }), name: 'audit' })], []);

  expect(app.get(getRedisStreamsToken('audit', RedisStreamer))).toBeInstanceOf(RedisStreamer);
  expect(app.get(getRedisStreamsToken('audit', ServerRedisStreams))).toBeInstanceOf(ServerRedisStreams);
  expect(getRedisStreamsToken(undefined, ServerRedisStreams)).toBe(ServerRedisStreams);
});

describe('a module that does not import RedisStreamsModule', () => {
  const startBeside = (isGlobal: boolean) =>
    start([RedisStreamsModule.forRoot({ ...options(), isGlobal }), moduleOf({ providers: [Checkout] })], []);

  it('injects the client when isGlobal is true', async () => {
    await expectToEmit((await startBeside(true)).get(Checkout, { strict: false }).client);
  });

  it('cannot inject the client when isGlobal is false', async () => {
    await expect(startBeside(false)).rejects.toThrow(/ClientRedisStreams/);
  });
});

it('RedisStreamer is injectable, makes no connection by itself, and connects on first use', async () => {
  const app = await start([RedisStreamsModule.forRoot(options())]);
  const streamer = app.get(RedisStreamer);
  expect(streamer.status).toBe('disconnected');

  const producer = await streamer.createProducer(uniqueName('engine'));
  expect((await producer.send('x')).id).toMatch(/^\d+-\d+$/);
  expect(streamer.status).toBe('connected');
});

it("RedisStreamer of the module logs to Nest's logger, as its client and server do, unless another logger is given", async () => {
  const failing = {
    startSend: () => {
      throw new Error('no spans today');
    },
  };
  const report = /A telemetry failed in startSend\(\).*no spans today/;
  const [nestLines, ownLines] = [new LogLines(), new LogLines()];
  for (const logger of [undefined, ownLines]) {
    const imports = [
      RedisStreamsModule.forRoot({ connection: nest.url, telemetry: failing, ...(logger && { logger }) }),
    ];
    const app = await NestFactory.createApplicationContext(moduleOf({ imports }), { logger: nestLines });
    nest.closeLater(app);
    await (await app.get(RedisStreamer).createProducer(uniqueName('logged'))).send('x');
  }

  for (const lines of [nestLines, ownLines]) expect(lines.errors.filter((line) => report.test(line))).toHaveLength(1);
});

it('ServerRedisStreams from the container serves handlers through connectMicroservice in a hybrid application', async () => {
  const [events, requests] = [uniqueName('events'), uniqueName('requests')];
  const seen: unknown[] = [];
  const module = moduleOf({
    imports: [RedisStreamsModule.forRoot(options({ group: GROUP }))],
    controllers: [onEvent(events, (data) => seen.push(data)), onRequest(requests, (n: number) => n * 2)],
    providers: [Checkout],
  });
  const app = await createApp(nest, module);
  app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
  await app.startAllMicroservices();
  const { client } = app.get(Checkout);
  await firstValueFrom(client.emit(events, 'hello'));

  expect(await firstValueFrom(client.send(requests, 21))).toBe(42);
  await until('the event is handled', () => seen.length === 1);
});

it('without a group, using the server fails with an error that names the option, and everything else works', async () => {
  const module = moduleOf({
    imports: [RedisStreamsModule.forRoot(options())],
    controllers: [onEvent(uniqueName('x'), () => undefined)],
    providers: [Checkout],
  });
  const app = await createApp(nest, module);

  expect(() => app.connectMicroservice({ strategy: app.get(ServerRedisStreams) })).toThrow(/group.*must be given/);
  await expectToEmit(app.get(Checkout).client);
});

it("Nest's own ClientsModule creates a client by customClass, and closes it with the application", async () => {
  const ORDERS = 'ORDERS';
  @Injectable()
  class Shop {
    constructor(@Inject(ORDERS) readonly client: ClientRedisStreams) {}
  }
  const app = await start(
    [ClientsModule.register([{ name: ORDERS, customClass: ClientRedisStreams, options: options() }])],
    [Shop],
  );
  const { client } = app.get(Shop);
  expect(client).toBeInstanceOf(ClientRedisStreams);
  await expectToEmit(client);

  await app.close();
  await expect(firstValueFrom(client.emit('x', 1))).rejects.toMatchObject({ code: 'ERR_CLOSED' });
});

it('when Redis is down at start, the application starts; emit waits, then fails', async () => {
  const connection = `redis://127.0.0.1:${await freePort()}`;
  const begin = Date.now();
  const app = await start([RedisStreamsModule.forRoot(options({ connection, timeout: 4_000 }))]);
  expect(Date.now() - begin).toBeLessThan(3_500);

  await expect(firstValueFrom(app.get(Checkout).client.emit('x', 1))).rejects.toMatchObject({
    name: expect.stringMatching(/Error$/),
    code: expect.stringMatching(/^ERR_/),
  });
  expect(Date.now() - begin).toBeGreaterThanOrEqual(3_950);
});

/** Options that the compiler refuses in a literal, but not in what a configuration service returns. */
const misspelled = (wrong: object): RedisStreamsModuleOptions => wrong as RedisStreamsModuleOptions;

it.each<[string, RedisStreamsModuleOptions, RegExp]>([
  ['concurrency', { group: 'g', concurrency: 0 }, /concurrency .*1.*got 0/],
  ['mode', { group: 'g', mode: 'broadcast' as never }, /mode .*real-time.*got "broadcast"/],
  ['retry.attempts', { group: 'g', retry: { attempts: 1.5 } }, /retry\.attempts .*got 1\.5/],
  ['retry.unless', { group: 'g', retry: { unless: 'never' as never } }, /retry\.unless .*function; got "never"/],
  ['deadLetter.maxLen', { group: 'g', deadLetter: { maxLen: -1 } }, /deadLetter\.maxLen .*got -1/],
  ['deadLetter.maxLen', { group: 'g', deadLetter: { maxLen: true as never } }, /deadLetter\.maxLen .*got true/],
  ['shutdownTimeout', { group: 'g', shutdownTimeout: -5 }, /shutdownTimeout .*got -5/],
  ['autoCommitDelay', { group: 'g', autoCommitDelay: 5 }, /autoCommitDelay .*delayed.*got 5/],
  ['requestTimeout', { requestTimeout: 0 }, /requestTimeout .*got 0/],
  ['replyPrefix', { replyPrefix: '' }, /replyPrefix .*got ""/],
  ['maxQueued', { maxQueued: 0 }, /maxQueued .*got 0/],
  ['connection', { connection: 'http://localhost' }, /connection .*redis:\/\/.*got "http:"/],
  ['serializer', { serializer: {} as never }, /serializer .*serialize.*got an object/],
  ['deserializer', { deserializer: 'json' as never }, /deserializer .*deserialize.*got "json"/],
  ['onDeadLetter', { group: 'g', onDeadLetter: 'x' as never }, /onDeadLetter .*function; got "x"/],
  ['shutdownTimeout', { group: 'g', shutdownTimeout: 2 ** 31 }, /shutdownTimeout .*to 2147483647; got 2147483648/],
  ['requestTimeout', { requestTimeout: 2 ** 31 }, /requestTimeout .*to 2147483647; got 2147483648/],
  ['retry.delay', { group: 'g', retry: { delay: 2 ** 31 } }, /retry\.delay .*to 2147483647; got 2147483648/],
  ['retry.maxDelay', { group: 'g', retry: { maxDelay: 2 ** 31 } }, /retry\.maxDelay .*to 2147483647/],
  ['name', misspelled({ group: 'g', concurency: 3 }), /concurency is not an option here; did you mean 'concurrency'\?/],
  ['name', misspelled({ isglobal: true }), /isglobal is not an option here; did you mean 'isGlobal'\?/],
  ['name', misspelled({ global: true }), /global is not an option here; .*isGlobal/],
  ['name', misspelled({ retries: {} }), /retries is not an option here; the options are ack, /],
  ['name', misspelled({ group: 'g', retry: { attemps: 3 } }), /retry\.attemps is not .*'attempts'\?/],
  ['name', misspelled({ group: 'g', deadLetter: { maxlen: 3 } }), /deadLetter\.maxlen is not .*'maxLen'\?/],
  ['name', misspelled({ group: 'g', retention: { keepfor: 3 } }), /retention\.keepfor is not .*'keepFor'\?/],
  [
    'place',
    misspelled({ host: 'h', password: 'secret' }),
    /^host is an option of connection: write connection: { host: … }$/,
  ],
  [
    'place',
    misspelled({ url: 'redis://:secret@h' }),
    /^url is an option of connection: write connection: 'redis:[^;]*$/,
  ],
  ['place', misspelled({ password: 'secret' }), /^password is an option of connection: [^;]*$/],
  ['value for a server, without a group,', { concurrency: 0 }, /concurrency must be a whole number .*got 0/],
  ['combination', { mode: 'real-time', group: 'g' }, /group cannot be combined with mode 'real-time'.*got "g"/],
  ['combination', { mode: 'real-time', consumer: 'c' }, /consumer cannot be combined with mode 'real-time'/],
  ['combination', { mode: 'real-time', retention: true }, /retention cannot be combined with mode 'real-time'/],
  ['combination', { mode: 'real-time', maxHandlerTime: 5 }, /maxHandlerTime cannot be combined with mode 'real-time'/],
  ['combination', { mode: 'real-time', leaseRenewal: 'thread' }, /leaseRenewal cannot be combined .*got "thread"/],
])(
  'a wrong %s stops the start of the application by an error with option, rule and value',
  async (_name, wrong, message) => {
    const failure = await start([RedisStreamsModule.forRoot({ ...options(), ...wrong })]).catch(
      (error: unknown) => error,
    );

    expect(failure).toBeInstanceOf(InvalidOptionError);
    expect((failure as Error).message).toMatch(message);
  },
);

it.each<[string, object, RegExp]>([
  ['concurrency', { concurrency: 0 }, /@EventPattern\('orders'\)\.concurrency .*got 0/],
  ['batch size', { batch: { size: 0 } }, /batch\.size .*got 0/],
  ['ordered beside batch', { ordered: true, batch: { size: 2 } }, /ordered .*batch; got true/],
  ['retry', { retry: { delay: -1 } }, /@EventPattern\('orders'\)\.retry\.delay .*got -1/],
  ['batch time', { batch: { size: 2, timeout: 2 ** 31 } }, /batch\.timeout .*to 2147483647; got 2147483648/],
  ['name', { orderd: true }, /@EventPattern\('orders'\)\.orderd is not an option here; did you mean 'ordered'\?/],
  ['name of another transport', { quality: 2 }, /\.quality is not an option here; the options are ack, batch, /],
  ['name inside batch', { batch: { sise: 2 } }, /batch\.sise is not an option here; did you mean 'size'\?/],
  ['name inside retry', { retry: { delays: 2 } }, /retry\.delays is not an option here; did you mean 'delay'\?/],
  ['mode without a group', { mode: 'load-balanced' }, /group must be given for the load-balanced handler of 'orders'/],
])(
  'a wrong %s of a handler stops listen() before any I/O, by an error that names the pattern',
  async (_name, extras, message) => {
    const connection = `redis://127.0.0.1:${await freePort()}`;
    const listening = nest.serve(
      onEvent('orders', () => undefined, extras),
      { mode: 'real-time', connection },
    );

    await expect(listening).rejects.toThrow(message);
  },
);

it('extras of other transports are left to them, because a handler of a hybrid application may be for several', async () => {
  const handled: unknown[] = [];
  const pattern = uniqueName('hybrid');
  await nest.serve(onEvent(pattern, (data) => handled.push(data), { qos: 2, queue: 'q' } as object));
  await nest.emit(pattern, 1);
  await until('it is handled', () => handled.length === 1);
});

it.each<[string, () => unknown, RegExp]>([
  ['a server', () => new ServerRedisStreams({ group: 'g', shutdownTimout: 5 } as object), /'shutdownTimeout'/],
  ['a client', () => new ClientRedisStreams({ requestTimout: 5 } as object), /'requestTimeout'/],
  ['forRootAsync()', () => RedisStreamsModule.forRootAsync({ useFactori: () => ({}) } as object), /'useFactory'/],
])('%s refuses a misspelled option with the nearest right one', (_, make, right) => {
  expect(make).toThrow(/is not an option here; did you mean '/);
  expect(make).toThrow(right);
});

it.each([
  ['null', null, 'got null'],
  ['the URL of Redis', 'redis://:secret@localhost', 'got a string'],
])('forRoot() refuses %s in place of its options', (_, options, got) => {
  const make = (): unknown => RedisStreamsModule.forRoot(options as never);
  expect(make).toThrow(InvalidOptionError);
  expect(make).toThrow(`options must be an object; ${got}`);
  expect(make).not.toThrow('secret');
});

it.each<[string, () => unknown]>([
  ['forRoot()', () => RedisStreamsModule.forRoot({ name: '' })],
  ['forRootAsync()', () => RedisStreamsModule.forRootAsync({ name: '', useFactory: () => ({}) })],
])('%s refuses an empty name', (_, make) => {
  expect(make).toThrow(/^name must be a non-empty string; got ""$/);
});

it('options that a factory makes are checked as those of forRoot()', async () => {
  const module = RedisStreamsModule.forRootAsync({ useFactory: async () => misspelled({ keyprefix: 'app:' }) });
  await expect(start([module])).rejects.toThrow(/keyprefix is not an option here; did you mean 'keyPrefix'\?/);
});

it.each(['name', 'isGlobal', 'lagEndpoint'])('%s is refused among the options that a factory makes', async (name) => {
  const module = RedisStreamsModule.forRootAsync({ useFactory: () => misspelled({ [name]: true }) });
  const rule = `${name} is an option of the module: give it to forRootAsync() itself`;
  await expect(start([module])).rejects.toThrow(rule);
});
