import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, get } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { Controller, Get } from '@nestjs/common';
import type { INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { consoleModule } from '../../packages/console/src/console.module.js';
import { resolveConsoleOptions } from '../../packages/console/src/console.options.js';
import type { ResolvedConsoleOptions } from '../../packages/console/src/console.options.js';
import type { RedisStreamsConsoleOptions } from '../../packages/console/src/index.js';
import type { Failure, Updates, View } from '../../packages/console/src/api.js';
import { moduleOf } from './controllers.js';
import { QUIET } from './nest.js';
import { until } from './until.js';

export type Adapter = 'express' | 'fastify';

export const ADAPTERS: readonly Adapter[] = ['express', 'fastify'];

const manifest = new URL('../../packages/console/package.json', import.meta.url);
export const CONSOLE_VERSION = (JSON.parse(readFileSync(manifest, 'utf8')) as { version: string }).version;

interface AppParts {
  /** Milliseconds that a stream of events lasts. Default as in production. */
  readonly visit?: number;
  readonly adapter?: Adapter;
  readonly imports?: NonNullable<Parameters<typeof moduleOf>[0]['imports']>;
  readonly configure?: (app: INestApplication) => void;
  /** See `ResolvedConsoleOptions`. */
  readonly rest?: number;
}

export interface ConsoleAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** Undefined where the answer is no JSON. */
  readonly body: unknown;
}

/** A page of the application that has the console. */
@Controller('own')
class OwnController {
  @Get()
  own(): string {
    return 'own';
  }
}

/** An application with a console, over HTTP as browsers see it. */
export class ConsoleApp implements AsyncDisposable {
  readonly app: INestApplication;
  readonly #url: string;
  readonly #path: string;

  static async start(options: RedisStreamsConsoleOptions, parts: AppParts = {}): Promise<ConsoleApp> {
    const { adapter = 'express', imports = [], configure, rest, visit } = parts;
    const module = moduleOf({
      imports: [...imports, consoleModule({ ...quick(options, rest), ...(visit !== undefined && { visit }) })],
      controllers: [OwnController],
    });
    const app =
      adapter === 'express'
        ? await NestFactory.create(module, QUIET)
        : await NestFactory.create(module, new FastifyAdapter(), QUIET);
    configure?.(app);
    await app.listen(0, '127.0.0.1');
    return new ConsoleApp(app, await app.getUrl(), options.path ?? 'console');
  }

  private constructor(app: INestApplication, url: string, path: string) {
    this.app = app;
    this.#url = url;
    this.#path = path;
  }

  /** @param path below that of the console; with a slash at its beginning, of the application */
  urlOf(path: string): string {
    return path.startsWith('/') ? this.#url + path : `${this.#url}/${this.#path}/${path}`;
  }

  async get(path: string, headers: Record<string, string> = {}): Promise<ConsoleAnswer> {
    return answerOf(
      await fetch(this.urlOf(path), { headers: { connection: 'close', ...headers }, redirect: 'manual' }),
    );
  }

  /** As the pages send it; headers that are undefined are left out. */
  async post(path: string, body: unknown, headers: Record<string, string | undefined> = {}): Promise<ConsoleAnswer> {
    const all = {
      connection: 'close',
      'content-type': 'application/json',
      'x-nrs-console': '1',
      'sec-fetch-site': 'same-origin',
      ...headers,
    };
    const sent = Object.entries(all).filter((header): header is [string, string] => header[1] !== undefined);
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return answerOf(await fetch(this.urlOf(path), { method: 'POST', headers: sent, body: text }));
  }

  /** The JSON of a request that must succeed. */
  async json<T>(path: string): Promise<T> {
    return this.#checked(path, await this.get(path)) as T;
  }

  async change<T>(path: string, body: unknown): Promise<T> {
    return this.#checked(path, await this.post(path, body)) as T;
  }

  #checked(path: string, { status, text, body }: ConsoleAnswer): unknown {
    if (status !== 200) throw new Error(`${path} answered ${status}: ${text}`);
    return body;
  }

  /** Opens a stream of events; it ends with the test's `await using`. */
  async watch<V extends View>(view: V, path = 'api/live'): Promise<Watching<Updates[V['page']]>> {
    const watching = new Watching<Updates[V['page']]>(
      `${this.urlOf(path)}?view=${encodeURIComponent(JSON.stringify(view))}`,
    );
    await watching.opened;
    return watching;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.app.close();
  }
}

/** Short times, because tests wait for updates; on a busy machine, looks take long. */
function quick(options: RedisStreamsConsoleOptions, rest = 1): ResolvedConsoleOptions {
  return { ...resolveConsoleOptions({ interval: 100, ...options }), rest };
}

async function answerOf(response: Response): Promise<ConsoleAnswer> {
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') ?? false;
  return { status: response.status, headers: response.headers, text, body: isJson ? JSON.parse(text) : undefined };
}

/** A viewer: the events of one stream of events, over a connection that could be used again. */
export class Watching<T> implements AsyncDisposable {
  readonly opened: Promise<void>;
  readonly updates: T[] = [];
  readonly failures: Failure[] = [];
  readonly types: string[] = [];
  headers = new Headers();
  hasEnded = false;
  // fetch() would connect again as soon as it is left, and applications wait for such connections when they close.
  readonly #agent = new Agent({ keepAlive: true });
  readonly #request: ClientRequest;
  #rest = '';

  constructor(url: string) {
    this.#request = get(url, { agent: this.#agent });
    this.opened = once(this.#request, 'response').then(([response]) => this.#open(response as IncomingMessage));
    this.#request.on('error', () => undefined);
  }

  get latest(): T | undefined {
    return this.updates.at(-1);
  }

  async until(description: string, condition: (update: T) => boolean): Promise<T> {
    await until(description, () => this.latest !== undefined && condition(this.latest), 20_000);
    return this.latest as T;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#request.destroy();
    this.#agent.destroy();
  }

  #open(response: IncomingMessage): void {
    const { statusCode, headers } = response;
    this.headers = new Headers(headers as Record<string, string>);
    if (statusCode !== 200) throw new Error(`The event stream answered ${statusCode}`);
    response.setEncoding('utf8').on('data', (chunk: string) => this.#take(chunk));
    response.on('end', () => (this.hasEnded = true)).on('error', () => undefined);
  }

  #take(chunk: string): void {
    const events = (this.#rest + chunk).split('\n\n');
    this.#rest = events.pop() ?? '';
    for (const event of events) this.#note(event);
  }

  #note(event: string): void {
    const type = /^event: (.*)$/m.exec(event)?.[1];
    if (type === undefined) return;
    this.types.push(type);
    const data = event.split('\n').filter((line) => line.startsWith('data: '));
    const value: unknown = JSON.parse(data.map((line) => line.slice(6)).join('\n') || 'null');
    if (type === 'update') this.updates.push(value as T);
    if (type === 'failed') this.failures.push(value as Failure);
  }
}
