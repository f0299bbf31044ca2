import { afterEach } from '@jest/globals';
import type { INestApplication, INestMicroservice, ModuleMetadata, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import type { Redis } from 'ioredis';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, ServerRedisStreams } from '../../lib/index.js';
import type {
  ClientRedisStreamsOptions,
  Receipt,
  RedisStreamer,
  RedisStreamsLogger,
  ServerRedisStreamsOptions,
  StreamerOptions,
} from '../../lib/index.js';
import { moduleOf } from './controllers.js';
import { pendingOf, useStreams } from './streams.js';
import { until } from './until.js';

/** The group of every server for which a test sets no other. */
export const GROUP = 'test-group';

/** A logger that collects the logged lines by level. */
export class LogLines implements RedisStreamsLogger {
  readonly errors: string[] = [];
  readonly warnings: string[] = [];
  readonly messages: string[] = [];
  readonly details: string[] = [];

  error = (message: string): void => void this.errors.push(message);
  warn = (message: string): void => void this.warnings.push(message);
  log = (message: string): void => void this.messages.push(message);
  debug = (message: string): void => void this.details.push(message);
}

interface Served {
  readonly app: INestMicroservice;
  readonly server: ServerRedisStreams;
  readonly log: LogLines;
}

/** The parts of a test's application, and a function that configures it before it listens. */
interface AppParts extends ModuleMetadata {
  readonly configure?: (app: INestMicroservice) => void;
}

/** The fixture of every test of the Nest layer; see {@link useNest}. */
export interface TestNest {
  readonly url: string;
  /** A plain client, to inspect the server and to write as other clients do. */
  readonly redis: Redis;
  /** Starts a listening microservice with the given controllers. */
  serve(parts: Type | Type[] | AppParts, options?: Partial<ServerRedisStreamsOptions>): Promise<Served>;
  client(options?: ClientRedisStreamsOptions): ClientRedisStreams;
  /** Creates a streamer that is disconnected after the test. */
  connect(options?: StreamerOptions): Promise<RedisStreamer>;
  /** Emits through a client of the test and waits for the receipt. */
  emit(pattern: unknown, data: unknown): Promise<Receipt>;
  /** Closes the given object after the test. */
  closeLater(closable: { close(): Promise<unknown> }): void;
  /** The number of pending entries of the group. */
  pending(pattern: string, group?: string): Promise<number>;
  /** Waits until nothing is pending in the group. */
  untilSettled(pattern: string, group?: string): Promise<void>;
  /** All entries of a stream, as fields by name. */
  entries(key: string): Promise<Array<{ id: string; fields: Record<string, string> }>>;
}

/** Short times, because tests wait for acknowledgements and for the end of blocked reads. */
const QUICK = { autoCommitInterval: 10, blockTimeout: 1_000 } as const;

/**
 * Creates applications and clients for a test file, closes them after each test, and fails a test that leaves a
 * connection open.
 */
export function useNest(): TestNest {
  const closing: Array<() => Promise<unknown>> = [];
  let shared: ClientRedisStreams | undefined;
  // Registered so that it runs before the hooks of useStreams, which check for open connections.
  afterEach(async () => {
    shared = undefined;
    for (const close of closing.splice(0).reverse()) await close();
  });
  const streams = useStreams();

  const client = (options: ClientRedisStreamsOptions = {}): ClientRedisStreams => {
    const created = new ClientRedisStreams({
      connection: streams.url,
      blockTimeout: QUICK.blockTimeout,
      logger: new LogLines(),
      ...options,
    });
    closing.push(() => created.close());
    return created;
  };

  const pending = async (pattern: string, group = GROUP): Promise<number> =>
    (await pendingOf(streams.redis, pattern, group)).length;

  return {
    url: streams.url,
    get redis() {
      return streams.redis;
    },
    client,
    connect: (options) => streams.connect(options),
    pending,
    async serve(parts, options = {}) {
      const log = new LogLines();
      const group = options.mode === 'real-time' ? {} : { group: GROUP };
      const server = new ServerRedisStreams({ connection: streams.url, ...group, ...QUICK, logger: log, ...options });
      const { configure, ...metadata }: AppParts =
        'controllers' in parts ? parts : { controllers: [parts].flat() as Type[] };
      const app = await NestFactory.createMicroservice<MicroserviceOptions>(moduleOf(metadata), {
        strategy: server,
        ...QUIET,
      });
      closing.push(() => app.close());
      configure?.(app);
      await app.listen();
      return { app, server, log };
    },
    async emit(pattern, data) {
      shared ??= client();
      return firstValueFrom(shared.emit(pattern, data));
    },
    closeLater(closable) {
      closing.push(() => closable.close());
    },
    async untilSettled(pattern, group = GROUP) {
      await until('nothing is pending', async () => (await pending(pattern, group)) === 0);
    },
    async entries(key) {
      const rows = await streams.redis.xrange(key, '-', '+');
      return rows.map(([id, flat]) => ({ id, fields: Object.fromEntries(pairs(flat)) }));
    },
  };
}

/** Without these options Nest writes to the console, and exits the process when an application cannot be created. */
export const QUIET = { logger: false, abortOnError: false } as const;

/** Creates an HTTP application that does not listen; it is closed after the test. */
export async function createApp(nest: TestNest, module: Type): Promise<INestApplication> {
  const app = await NestFactory.create(module, QUIET);
  nest.closeLater(app);
  return app;
}

function pairs(flat: readonly string[]): Array<[string, string]> {
  return Array.from({ length: flat.length / 2 }, (_, index) => [
    flat[2 * index] as string,
    flat[2 * index + 1] as string,
  ]);
}
