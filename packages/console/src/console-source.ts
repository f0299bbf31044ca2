import { Logger } from '@nestjs/common';
import type { ModuleRef } from '@nestjs/core';
import { InvalidOptionError, RedisStreamer, getRedisStreamsToken } from 'nestjs-redis-streams';
import type { StreamManager } from 'nestjs-redis-streams';
import type { ResolvedConsoleOptions } from './console.options.js';
import { KnownStreams } from './known-streams.js';

/** Milliseconds, of a connection of its own: a viewer waits until a command fails. */
const TIMEOUT = 10_000;

/**
 * Where the console gets everything from: a streamer of its own, or another, such as that of the application's module, which it
 * leaves open. Makes no connection before the first look.
 */
export class ConsoleSource {
  readonly streams = new KnownStreams(() => this.manager());
  readonly #open: () => RedisStreamer;
  readonly #isOwn: boolean;
  #streamer: RedisStreamer | undefined;
  #manager: Promise<StreamManager> | undefined;

  /** The source that the options name. */
  static of({ connection, name }: ResolvedConsoleOptions, moduleRef: ModuleRef): ConsoleSource {
    if (connection !== undefined) {
      const logger = new Logger('RedisStreamsConsole');
      return new ConsoleSource(() => new RedisStreamer(connection, { timeout: TIMEOUT, logger }), true);
    }
    return new ConsoleSource(() => streamerOfModule(name, moduleRef), false);
  }

  /** @param isOwn whether it is disconnected at the end */
  constructor(open: () => RedisStreamer, isOwn: boolean) {
    this.#open = open;
    this.#isOwn = isOwn;
  }

  /** @throws InvalidOptionError when there is neither a connection nor a module, or the connection is none */
  get streamer(): RedisStreamer {
    this.#streamer ??= this.#open();
    return this.#streamer;
  }

  /** Without I/O. @throws InvalidOptionError, see {@link streamer} */
  check(): void {
    void this.streamer;
  }

  manager(): Promise<StreamManager> {
    this.#manager ??= this.streamer.createManager();
    return this.#manager;
  }

  async close(): Promise<void> {
    if (this.#isOwn) await this.#streamer?.disconnect();
  }
}

function streamerOfModule(name: string | undefined, moduleRef: ModuleRef): RedisStreamer {
  try {
    return moduleRef.get<RedisStreamer>(getRedisStreamsToken(name, RedisStreamer), { strict: false });
  } catch {
    const module = name === undefined ? 'RedisStreamsModule' : `RedisStreamsModule with the name '${name}'`;
    throw new InvalidOptionError('connection', `must be given in an application without a ${module}`, undefined);
  }
}
