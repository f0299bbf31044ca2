import type { CanActivate, ModuleMetadata, Type } from '@nestjs/common';
import { InvalidOptionError } from 'nestjs-redis-streams';
import type {
  ClientRedisStreams,
  RedisStreamer,
  RedisStreamsConnection,
  ServerRedisStreams,
} from 'nestjs-redis-streams';

/** A part of the application that has connections of its own, and whose read loops the console shows. */
export type HealthSource = ServerRedisStreams | ClientRedisStreams | RedisStreamer;

export interface RedisStreamsConsoleOptions {
  /** Path of the console, below the global prefix of the application; not the root. Default `console`. */
  path?: string;
  /**
   * Guards as `@UseGuards()` takes them, beside the global guards of the application. Required where NODE_ENV is `production`; `[]`
   * admits every caller that reaches the port. A class must have `canActivate` as a method, not as a property. A guard that injects
   * providers needs their module in {@link imports}.
   */
  guards?: ReadonlyArray<Type<CanActivate> | CanActivate>;
  /** Modules of the providers that the guards inject. Default none. */
  imports?: NonNullable<ModuleMetadata['imports']>;
  /** Refuses every change. Default true. */
  readOnly?: boolean;
  /** Shows payloads, and searches them; otherwise only their sizes are shown. Default false. */
  showPayloads?: boolean;
  /**
   * The streams that the console may show and change. Default: all, except the streams of answers (`reply:…`). Shards and dead letters
   * belong to their stream.
   *
   * A list of names; the keyspace is then not searched. Only a list can name a stream of answers.
   *
   * Or a function that decides about a stream. It is called with the name of the stream, which is the key without the number of a
   * shard and without `.dead`, and with the key. `users:42` is shard 42 of `users`, as everywhere in this package; where these are
   * streams of their own, decide by the key: `(_, key) => key.startsWith('users:')`.
   */
  streams?: readonly string[] | ((streamKey: string, key: string) => boolean);
  /**
   * Milliseconds between two looks at what viewers see, at least; a look that takes long is followed by a longer pause. From 100 to
   * 60,000, default 2,000.
   */
  interval?: number;
  /**
   * Redis. Default: that of the application's `RedisStreamsModule`, with its prefix of keys.
   */
  connection?: RedisStreamsConnection;
  /** Which `RedisStreamsModule` to use, of several that have a name. Default: the one without a name. */
  name?: string;
  /**
   * Servers and clients whose read loops the console shows, by the names that they get. Needed only for those that are not providers
   * of the application, such as a `strategy` that was created in `main.ts`; a function is called at each look.
   */
  health?: Readonly<Record<string, HealthSource>> | (() => Readonly<Record<string, HealthSource>>);
}

/** Options that were checked, with their defaults. */
export interface ResolvedConsoleOptions {
  readonly path: string;
  readonly guards: ReadonlyArray<Type<CanActivate> | CanActivate>;
  readonly isGuarded: boolean;
  readonly imports: NonNullable<ModuleMetadata['imports']>;
  readonly readOnly: boolean;
  readonly showPayloads: boolean;
  readonly streams: RedisStreamsConsoleOptions['streams'];
  readonly interval: number;
  /** Redis spends at most one part in so many of its time on viewers. */
  readonly rest: number;
  /** Milliseconds that a stream of events lasts, at most: the guards decide again about the next one. */
  readonly visit: number;
  readonly connection: RedisStreamsConnection | undefined;
  readonly name: string | undefined;
  readonly health: () => Readonly<Record<string, HealthSource>>;
}

const REST = 20;
/** Five minutes. */
const VISIT = 5 * 60_000;

const NAMES: Readonly<Record<keyof RedisStreamsConsoleOptions, true>> = {
  path: true,
  guards: true,
  imports: true,
  readOnly: true,
  showPayloads: true,
  streams: true,
  interval: true,
  connection: true,
  name: true,
  health: true,
};

/** Letters, digits and signs that mean nothing to a router. */
const PATH = /^(?!\.\.?(?:\/|$))[\w.~-]+(?:\/(?!\.\.?(?:\/|$))[\w.~-]+)*$/;

/**
 * @param environment where NODE_ENV is looked up
 * @throws InvalidOptionError that names option, rule and value
 */
export function resolveConsoleOptions(
  options: RedisStreamsConsoleOptions,
  environment: NodeJS.ProcessEnv = process.env,
): ResolvedConsoleOptions {
  checkNames(options);
  const { guards, imports = [], path = 'console', readOnly = true, showPayloads = false } = options;
  const { streams, connection, name, health = {}, interval = 2_000 } = options;
  checkGuards(guards, environment);
  if (!Array.isArray(imports)) throw new InvalidOptionError('imports', 'must be a list of modules', imports);
  for (const [option, value] of Object.entries({ readOnly, showPayloads })) {
    if (typeof value !== 'boolean') throw new InvalidOptionError(option, 'must be true or false', value);
  }
  if (name !== undefined && !isName(name)) throw new InvalidOptionError('name', 'must be a non-empty string', name);
  if (name !== undefined && connection !== undefined) {
    throw new InvalidOptionError('name', "must not be given beside 'connection'", name);
  }
  checkStreams(streams);
  if (!Number.isInteger(interval) || interval < 100 || interval > 60_000) {
    throw new InvalidOptionError('interval', 'must be a whole number of milliseconds from 100 to 60,000', interval);
  }
  if (typeof health !== 'function' && (typeof health !== 'object' || health === null)) {
    throw new InvalidOptionError('health', 'must be an object of servers and clients, or a function', health);
  }
  return {
    path: resolvePath(path),
    guards: guards ?? [],
    isGuarded: guards !== undefined,
    imports,
    readOnly,
    showPayloads,
    streams,
    interval,
    rest: REST,
    visit: VISIT,
    connection,
    name,
    health: typeof health === 'function' ? health : () => health,
  };
}

function checkNames(options: unknown): void {
  if (typeof options !== 'object' || options === null || Array.isArray(options)) {
    throw new InvalidOptionError('options', 'must be an object', options);
  }
  for (const name of Object.keys(options)) {
    if (Object.hasOwn(NAMES, name)) continue;
    throw new InvalidOptionError(
      name,
      `is not an option here; the options are ${Object.keys(NAMES).sort().join(', ')}`,
      name,
    );
  }
}

function checkGuards(guards: unknown, environment: NodeJS.ProcessEnv): void {
  if (guards === undefined && !isProduction(environment)) return;
  if (Array.isArray(guards) && guards.every(isGuard)) return;
  const what = guards === undefined ? ' where NODE_ENV is production' : ", which have the method 'canActivate'";
  throw new InvalidOptionError('guards', `must be a list of guards${what}; [] admits every caller`, guards);
}

/** In any spelling: `set NODE_ENV=production && node …` of Windows has a space at its end. */
function isProduction({ NODE_ENV: name = '' }: NodeJS.ProcessEnv): boolean {
  return name.trim().toLowerCase() === 'production';
}

/** Nest 11 leaves out a guard without the method, such as a factory of guards that was not called, and its routes are open. */
function isGuard(guard: unknown): boolean {
  const methods: unknown = typeof guard === 'function' ? guard.prototype : guard;
  return typeof methods === 'object' && typeof (methods as Partial<CanActivate> | null)?.canActivate === 'function';
}

function checkStreams(streams: unknown): void {
  if (streams === undefined || typeof streams === 'function') return;
  if (Array.isArray(streams) && streams.length > 0 && streams.every(isName)) return;
  throw new InvalidOptionError('streams', 'must be a list of names that is not empty, or a function', streams);
}

/** @throws InvalidOptionError */
function resolvePath(path: unknown): string {
  const trimmed = typeof path === 'string' ? path.replace(/^\/|\/$/g, '') : undefined;
  if (trimmed !== undefined && PATH.test(trimmed)) return trimmed;
  const rule =
    trimmed === '' || trimmed === '/'
      ? "must be a path below the root, where the console would take the routes of the application; such as 'admin/console'"
      : "must be a path of letters, digits, '-', '_', '.' and '~', such as 'admin/console'";
  throw new InvalidOptionError('path', rule, path);
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}
