import { Inject, Logger, Module } from '@nestjs/common';
import type {
  DynamicModule,
  InjectionToken,
  ModuleMetadata,
  OnApplicationShutdown,
  OptionalFactoryDependency,
  Provider,
  Type,
} from '@nestjs/common';
import { ModuleRef } from '@nestjs/core';

import { RedisStreamer } from '../engine/streamer.js';
import { InvalidOptionError } from '../errors.js';
import { check, optionNames } from '../shared/option-checks.js';
import { ClientRedisStreams } from './client/redis-streams.client.js';
import { checkOptionNames } from './redis-streams.options.js';
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
  /** Default: the connection without a name. */
  name?: string;
  /** Whether other modules can inject the providers without importing the module. Default false. */
  isGlobal?: boolean;
  /** Adds `GET lag` to the application: how far a group is behind, for an autoscaler like KEDA. Default: no endpoint. */
  lagEndpoint?: LagEndpointOptions;
}

/** Implemented by the class of `useClass` or `useExisting`: makes the options. */
export interface RedisStreamsOptionsFactory {
  createRedisStreamsOptions(): RedisStreamsModuleOptions | Promise<RedisStreamsModuleOptions>;
}

export interface RedisStreamsModuleAsyncOptions extends RedisStreamsModuleScope, Pick<ModuleMetadata, 'imports'> {
  inject?: Array<InjectionToken | OptionalFactoryDependency>;
  useFactory?: (...args: never[]) => RedisStreamsModuleOptions | Promise<RedisStreamsModuleOptions>;
  useClass?: Type<RedisStreamsOptionsFactory>;
  useExisting?: Type<RedisStreamsOptionsFactory>;
}

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

/** Provides a client, an engine and a server for one connection. None of them connects before it is used. */
@Module({})
export class RedisStreamsModule implements OnApplicationShutdown {
  readonly #moduleRef: ModuleRef;
  readonly #name: string | undefined;

  constructor(@Inject(ModuleRef) moduleRef: ModuleRef, @Inject(SCOPE) scope: RedisStreamsModuleScope) {
    this.#moduleRef = moduleRef;
    this.#name = scope.name;
  }

  /** @throws InvalidOptionError, when the application is created */
  static forRoot(options: RedisStreamsModuleOptions & RedisStreamsModuleScope = {}): DynamicModule {
    const { name, isGlobal, lagEndpoint, ...rest } = options;
    return defineModule({ name, isGlobal, lagEndpoint }, [
      { provide: optionsToken(name), useFactory: () => moduleOptions(rest, ['name', 'isGlobal', 'lagEndpoint']) },
    ]);
  }

  /** @throws InvalidOptionError unless one of `useFactory`, `useClass` and `useExisting` is given */
  static forRootAsync(options: RedisStreamsModuleAsyncOptions): DynamicModule {
    const { imports } = options;
    return defineModule(options, optionsProviders(options), imports);
  }

  async onApplicationShutdown(): Promise<void> {
    const created = [getRedisStreamsToken(this.#name), getRedisStreamsToken(this.#name, RedisStreamer)];
    const [client, streamer] = created.map((token) => this.#moduleRef.get<unknown>(token, { strict: true }));
    await Promise.all([(client as ClientRedisStreams).close(), (streamer as RedisStreamer).disconnect()]);
  }
}

function defineModule(
  { name, isGlobal, lagEndpoint }: RedisStreamsModuleScope,
  optionsProviders: Provider[],
  imports: ModuleMetadata['imports'] = [],
): DynamicModule {
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
    providers: [{ provide: SCOPE, useValue: { name } }, ...optionsProviders, ...providers],
    exports: providers.map((provider) => (provider as { provide: InjectionToken }).provide),
  };
}

function optionsProviders(options: RedisStreamsModuleAsyncOptions): Provider[] {
  check.options('', options, ASYNC_OPTIONS);
  const { name, useFactory, useClass, useExisting, inject = [] } = options;
  const provide = optionsToken(name);
  if (useFactory) {
    const make = async (...args: never[]) => moduleOptions(await useFactory(...args));
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
      useFactory: async (made: RedisStreamsOptionsFactory) => moduleOptions(await made.createRedisStreamsOptions()),
    },
    ...(useClass ? [{ provide: useClass, useClass }] : []),
  ];
}

/** @throws InvalidOptionError */
function moduleOptions(options: RedisStreamsModuleOptions, others?: readonly string[]): RedisStreamsModuleOptions {
  checkOptionNames(options, others);
  return options;
}

function createServer(options: RedisStreamsModuleOptions): ServerRedisStreams {
  return hasServer(options) ? new ServerRedisStreams(options) : unconfiguredServer(options.group);
}

function hasServer({ group, mode }: RedisStreamsModuleOptions): boolean {
  return group !== undefined || mode === 'real-time';
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
