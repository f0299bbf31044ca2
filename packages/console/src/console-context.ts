import type { HttpAdapterHost } from '@nestjs/core';
import type { StreamManager } from 'nestjs-redis-streams';
import type { ResolvedConsoleOptions } from './console.options.js';
import type { ConsoleSource } from './console-source.js';
import type { HealthParts } from './health-parts.js';
import { Live } from './live/live.js';
import { Viewers } from './live/viewers.js';
import { ChangeLog } from './security/change-log.js';
import { StreamPolicy } from './stream-policy.js';
import { Turns } from './turns.js';

export interface ConsoleContextParts {
  readonly options: ResolvedConsoleOptions;
  readonly source: ConsoleSource;
  readonly health: HealthParts;
  readonly adapterHost: HttpAdapterHost;
}

/** What the controllers of one console work with. */
export class ConsoleContext {
  readonly options: ResolvedConsoleOptions;
  readonly policy: StreamPolicy;
  readonly viewers: Viewers;
  readonly changes = new ChangeLog();
  readonly turns = new Turns();
  readonly source: ConsoleSource;
  readonly #adapterHost: HttpAdapterHost;

  constructor({ options, source, health, adapterHost }: ConsoleContextParts) {
    this.options = options;
    this.policy = new StreamPolicy(options);
    this.viewers = new Viewers(new Live({ source, policy: this.policy, health, pace: options }), options);
    this.source = source;
    this.#adapterHost = adapterHost;
  }

  manager(): Promise<StreamManager> {
    return this.source.manager();
  }

  /** Answers directly: an interceptor of the application that changes what handlers return must not change this. */
  reply(response: unknown, body: object): void {
    this.#adapterHost.httpAdapter.reply(response, body, 200);
  }

  async close(): Promise<void> {
    await this.viewers.close();
    await this.source.close();
  }
}
