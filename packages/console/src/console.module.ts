import { Inject, Logger, Module } from '@nestjs/common';
import type { DynamicModule, OnModuleDestroy, OnModuleInit } from '@nestjs/common';
import { DiscoveryModule, DiscoveryService, HttpAdapterHost, ModuleRef } from '@nestjs/core';
import { ConsoleContext } from './console-context.js';
import { consoleControllers } from './console.controller.js';
import { resolveConsoleOptions } from './console.options.js';
import type { RedisStreamsConsoleOptions, ResolvedConsoleOptions } from './console.options.js';
import { ConsoleSource } from './console-source.js';
import { HealthParts } from './health-parts.js';

/**
 * The console for streams, groups, messages and dead letters, at a path of the application:
 *
 * ```ts
 * RedisStreamsConsoleModule.forRoot({ path: 'admin/streams', guards: [AdminGuard] })
 * ```
 *
 * It makes no connection, and asks Redis nothing, before a viewer opens a page.
 */
@Module({})
export class RedisStreamsConsoleModule implements OnModuleInit, OnModuleDestroy {
  readonly #context: ConsoleContext;

  constructor(@Inject(ConsoleContext) context: ConsoleContext) {
    this.#context = context;
  }

  /** @throws InvalidOptionError, when the application is created */
  static forRoot(options: RedisStreamsConsoleOptions = {}): DynamicModule {
    const resolved = resolveConsoleOptions(options);
    if (!resolved.isGuarded) {
      new Logger('RedisStreamsConsole').warn(
        `The console at /${resolved.path} has no guards: every caller that reaches the port may read the streams` +
          `${resolved.readOnly ? '' : ', and change them'}. In production the option 'guards' is required`,
      );
    }
    return consoleModule(resolved);
  }

  /** @throws InvalidOptionError where there is nothing to show */
  onModuleInit(): void {
    this.#context.source.check();
  }

  /** Event streams would hold up the end of the HTTP server. */
  async onModuleDestroy(): Promise<void> {
    await this.#context.close();
  }
}

/** @internal @param given a source that its owner closes; default: that of the options */
export function consoleModule(options: ResolvedConsoleOptions, given?: ConsoleSource): DynamicModule {
  return {
    module: RedisStreamsConsoleModule,
    imports: [DiscoveryModule, ...options.imports],
    controllers: consoleControllers(options),
    providers: [
      {
        provide: ConsoleContext,
        inject: [ModuleRef, DiscoveryService, HttpAdapterHost],
        useFactory: (moduleRef: ModuleRef, discovery: DiscoveryService, adapterHost: HttpAdapterHost) => {
          const source = given ?? ConsoleSource.of(options, moduleRef);
          return new ConsoleContext({ options, source, adapterHost, health: new HealthParts(discovery, options) });
        },
      },
    ],
  };
}
