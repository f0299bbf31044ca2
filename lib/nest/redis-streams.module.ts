import { Inject, Logger, Module } from '@nestjs/common';
import type {
  DynamicModule,
  InjectionToken,
  ModuleMetadata,
  OnApplicationBootstrap,
  OnApplicationShutdown,
  OptionalFactoryDependency,
  Provider,
  Type,
} from '@nestjs/common';
import { HttpAdapterHost, ModuleRef } from '@nestjs/core';

import { RedisStreamer } from '../engine/streamer.js';
import { InvalidOptionError } from '../errors.js';
import { resolveLogger } from '../shared/logger.js';
import { check, optionNames } from '../shared/option-checks.js';
import { ClientRedisStreams } from './client/redis-streams.client.js';
import { checkOptionNames, resolveServerOptions } from './redis-streams.options.js';
import type { ClientRedisStreamsOptions, ServerRedisStreamsOptions } from './redis-streams.options.js';
import { RedisStreamsHealthIndicator } from './health/redis-streams-health.indicator.js';
import type { HealthSources } from './health/redis-streams-health.indicator.js';
import { ServerRedisStreams } from './server/redis-streams.server.js';
import { getRedisStreamsToken, optionsToken } from './redis-streams.tokens.js';
import { lagController } from './lag/lag-endpoint.js';
import type { LagEndpointOptions } from './lag/lag-endpoint.js';

/** Options of the client and, where `group` or `mode: 'real-time'` is given, of the server. */
export interface RedisStreamsModuleOptions extends ClientRedisStreamsOptions, ServerRedisStreamsOptions {}

/** The options that are needed to define the module, before a factory has made the others. */
export interface RedisStreamsModuleScope {
  /**
   * Name of the connection, for applications with several.
   * @defaultValue the connection without a name
   */
  name?: string;
  /**
   * Whether other modules can inject the providers without importing the module.
   * @defaultValue `false`
   */
  isGlobal?: boolean;
  /**
   * Adds `GET lag` to the application: how far a group is behind, for an autoscaler like KEDA.
   * @defaultValue no endpoint
   */
  lagEndpoint?: LagEndpointOptions;
}

/** Implemented by the class of `useClass` or `useExisting`: makes the options. */
export interface RedisStreamsOptionsFactory {
  /** Returns the options; called once, when Nest starts. */
  createRedisStreamsOptions(): RedisStreamsModuleOptions | Promise<RedisStreamsModuleOptions>;
}

/** Options of {@link RedisStreamsModule.forRootAsync}: one of `useFactory`, `useClass` and `useExisting`. */
export interface RedisStreamsModuleAsyncOptions extends RedisStreamsModuleScope, Pick<ModuleMetadata, 'imports'> {
  /**
   * Tokens of the providers that `useFactory` receives, in the order of its parameters.
   * @defaultValue none
   */
  inject?: Array<InjectionToken | OptionalFactoryDependency>;
  /** Makes the options. */
  useFactory?: (...args: never[]) => RedisStreamsModuleOptions | Promise<RedisStreamsModuleOptions>;
  /** A class that makes the options; the module creates an instance. */
  useClass?: Type<RedisStreamsOptionsFactory>;
  /** A provider that makes the options, of a module in `imports`. */
  useExisting?: Type<RedisStreamsOptionsFactory>;
}

/** Nest needs them before a factory has made the other options. */
const SCOPE_OPTIONS = optionNames<RedisStreamsModuleScope>({ name: true, isGlobal: true, lagEndpoint: true });
const ASYNC_OPTIONS = optionNames<RedisStreamsModuleAsyncOptions>({
  name: true,
  isGlobal: true,
  lagEndpoint: true,
  imports: true,
  inject: true,
  useFactory: true,
  useClass: true,
  useExisting: true,
});

const SCOPE = Symbol.for('nestjs-redis-streams:scope');

/** How many were declared: two of them are different modules for Nest also where it compares their metadata, which hides options. */
let modules = 0;

/** How long an application may take to start its server, in milliseconds: some start it after HTTP. */
const START_LIMIT = 10_000;

/**
 * Provides a client, an engine and a server for one connection. None of them connects before it is used. An application that
 * has several connections imports it once for each, with a `name`.
 */
@Module({})
export class RedisStreamsModule implements OnApplicationBootstrap, OnApplicationShutdown {
  readonly #moduleRef: ModuleRef;
  readonly #scope: RedisStreamsModuleScope;
  #startCheck: NodeJS.Timeout | undefined;

  constructor(@Inject(ModuleRef) moduleRef: ModuleRef, @Inject(SCOPE) scope: RedisStreamsModuleScope) {
    this.#moduleRef = moduleRef;
    this.#scope = scope;
  }

  /**
   * The module with options that are known when the module is declared.
   * @throws InvalidOptionError at once for `name`, `lagEndpoint` and options that are not an object; for each option when the application is created
   * @example
   * ```ts
   * @Module({ imports: [RedisStreamsModule.forRoot({ connection: 'redis://localhost:6379', group: 'orders-service' })] })
   * export class AppModule {}
   * ```
   */
  static forRoot(options: RedisStreamsModuleOptions & RedisStreamsModuleScope = {}): DynamicModule {
    check.object('options', options);
    const { name, isGlobal, lagEndpoint, ...rest } = options;
    return defineModule({ name, isGlobal, lagEndpoint }, [
      { provide: optionsToken(name), useFactory: () => moduleOptions(rest, SCOPE_OPTIONS) },
    ]);
  }

  /**
   * The module with options that a provider makes.
   * @throws InvalidOptionError for `name` and `lagEndpoint`, and unless one of `useFactory`, `useClass` and `useExisting` is given;
   * for the options that it makes when the application is created
   * @example
   * ```ts
   * RedisStreamsModule.forRootAsync({
   *   imports: [ConfigModule],
   *   inject: [ConfigService],
   *   useFactory: (config: ConfigService) => ({ connection: config.getOrThrow<string>('REDIS_URL') }),
   * });
   * ```
   */
  static forRootAsync(options: RedisStreamsModuleAsyncOptions): DynamicModule {
    const { imports } = options;
    return defineModule(options, optionsProviders(options), imports);
  }

  /**
   * Called by Nest: warns later if an HTTP application has not started the server, because its handlers would get nothing. Scripts
   * and REPLs have the module without starting it.
   */
  onApplicationBootstrap(): void {
    const { name, lagEndpoint } = this.#scope;
    const options = this.#get<RedisStreamsModuleOptions>(optionsToken(name));
    const isHttp = Boolean(this.#moduleRef.get(HttpAdapterHost, { strict: false }).httpAdapter);
    // An application may only report the lag of the group.
    if (!hasServer(options) || lagEndpoint || !isHttp) return;
    const server = this.#get(getRedisStreamsToken(name, ServerRedisStreams));
    const warnIfUnstarted = () => {
      // A test may have replaced the server.
      if (server instanceof ServerRedisStreams && !server.isStartRequested) warnOfUnstarted(options, name);
    };
    this.#startCheck ??= setTimeout(warnIfUnstarted, START_LIMIT).unref();
  }

  /** Called by Nest: closes the client and the streamer of the module. */
  async onApplicationShutdown(): Promise<void> {
    clearTimeout(this.#startCheck);
    const { name } = this.#scope;
    const client = this.#get<ClientRedisStreams>(getRedisStreamsToken(name));
    const streamer = this.#get<RedisStreamer>(getRedisStreamsToken(name, RedisStreamer));
    await Promise.all([client.close(), streamer.disconnect()]);
  }

  #get<T>(token: InjectionToken<T>): T {
    return this.#moduleRef.get<T>(token, { strict: true });
  }
}

function defineModule(
  { name, isGlobal, lagEndpoint }: RedisStreamsModuleScope,
  options: Provider[],
  imports: ModuleMetadata['imports'] = [],
): DynamicModule {
  if (name !== undefined) check.name('name', name);
  const inject = [optionsToken(name)];
  const providers: Provider[] = [
    {
      provide: getRedisStreamsToken(name),
      inject,
      useFactory: (options: RedisStreamsModuleOptions) => new ClientRedisStreams(options),
    },
    {
      provide: getRedisStreamsToken(name, RedisStreamer),
      inject,
      useFactory: (options: RedisStreamsModuleOptions) =>
        new RedisStreamer(options.connection, { ...options, logger: options.logger ?? new Logger('RedisStreamer') }),
    },
    { provide: getRedisStreamsToken(name, ServerRedisStreams), inject, useFactory: createServer },
    {
      provide: getRedisStreamsToken(name, RedisStreamsHealthIndicator),
      inject: [
        ...inject,
        getRedisStreamsToken(name, ServerRedisStreams),
        getRedisStreamsToken(name),
        getRedisStreamsToken(name, RedisStreamer),
      ],
      useFactory: (
        options: RedisStreamsModuleOptions,
        server: ServerRedisStreams,
        client: ClientRedisStreams,
        streamer: RedisStreamer,
      ) =>
        new RedisStreamsHealthIndicator(
          () => partsInUse(hasServer(options) ? server : undefined, client, streamer),
          name === undefined ? undefined : `redis-streams:${name}`,
        ),
    },
  ];
  return {
    module: RedisStreamsModule,
    global: isGlobal ?? false,
    imports: [...imports, ...(lagEndpoint?.imports ?? [])],
    controllers: lagEndpoint ? [lagController(name, lagEndpoint)] : [],
    providers: [{ provide: SCOPE, useValue: { name, lagEndpoint, id: (modules += 1) } }, ...options, ...providers],
    exports: providers.map((provider) => (provider as { provide: InjectionToken }).provide),
  };
}

function optionsProviders(options: RedisStreamsModuleAsyncOptions): Provider[] {
  check.options('', options, ASYNC_OPTIONS);
  const { name, useFactory, useClass, useExisting, inject = [] } = options;
  const provide = optionsToken(name);
  if (useFactory) {
    const make = async (...args: never[]) => factoryOptions(await useFactory(...args));
    return [{ provide, useFactory: make, inject }];
  }
  const factory = useExisting ?? useClass;
  if (!factory) {
    throw new InvalidOptionError('forRootAsync()', 'must be given useFactory, useClass or useExisting', options);
  }
  return [
    {
      provide,
      inject: [factory],
      useFactory: async (made: RedisStreamsOptionsFactory) => factoryOptions(await made.createRedisStreamsOptions()),
    },
    ...(useClass ? [{ provide: useClass, useClass }] : []),
  ];
}

/** @throws InvalidOptionError */
function factoryOptions(options: RedisStreamsModuleOptions): RedisStreamsModuleOptions {
  for (const name of SCOPE_OPTIONS) {
    if ((options as Record<string, unknown> | undefined)?.[name] === undefined) continue;
    const rule =
      'is an option of the module: give it to forRootAsync() itself, not in the options that a factory makes';
    throw InvalidOptionError.withoutValue(name, rule);
  }
  return moduleOptions(options);
}

/** @throws InvalidOptionError */
function moduleOptions(options: RedisStreamsModuleOptions, others?: Iterable<string>): RedisStreamsModuleOptions {
  checkOptionNames(options, others);
  return options;
}

function createServer(options: RedisStreamsModuleOptions): ServerRedisStreams {
  if (hasServer(options)) return new ServerRedisStreams(options);
  // Wrong values of server options are refused without a server, too.
  resolveServerOptions({ ...options, group: 'none' });
  return unconfiguredServer(options.group);
}

function hasServer({ group, mode }: RedisStreamsModuleOptions): boolean {
  return group !== undefined || mode === 'real-time';
}

function warnOfUnstarted({ group, logger }: RedisStreamsModuleOptions, name: string | undefined): void {
  const owner = name ?? group;
  resolveLogger(logger, () => new Logger('RedisStreamsModule')).warn(
    `The server of RedisStreamsModule${owner === undefined ? '' : ` for '${owner}'`} was not started within ` +
      `${START_LIMIT / 1_000} s, so no handler gets a message from it: give it to app.connectMicroservice({ strategy }) ` +
      'and call app.startAllMicroservices(), or leave ' +
      `the option '${group === undefined ? 'mode' : 'group'}' out`,
  );
}

/**
 * What a health check looks at: the server, and what else of the module has been used, because a check must not open connections
 * that the application does not need. Without a server it is the client, used or not: an instance may wait for being ready before
 * it is given its first message to send.
 */
function partsInUse(
  server: ServerRedisStreams | undefined,
  client: ClientRedisStreams,
  streamer: RedisStreamer,
): HealthSources {
  const isClientUsed = client.unwrap<RedisStreamer>().isUsed;
  return {
    ...(server && { server }),
    ...((isClientUsed || !server) && { client }),
    ...(streamer.isUsed && { streamer }),
  };
}

/**
 * The server of a module without a group. An application that only sends has none, and must start all the same: Nest
 * itself only looks for lifecycle hooks. Any other use, by `connectMicroservice` for instance, throws an error that names
 * the option.
 */
function unconfiguredServer(group: string | undefined): ServerRedisStreams {
  return new Proxy({} as ServerRedisStreams, {
    get(_target, property) {
      if (property === 'constructor' || !(property in ServerRedisStreams.prototype || property === 'transportId'))
        return undefined;
      throw new InvalidOptionError(
        'RedisStreamsModule.group',
        "must be given for a server, unless mode is 'real-time'",
        group,
      );
    },
  });
}
