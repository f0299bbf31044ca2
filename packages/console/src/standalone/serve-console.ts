import type { AddressInfo } from 'node:net';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { RedisStreamer } from 'nestjs-redis-streams';
import { consoleModule } from '../console.module.js';
import { resolveConsoleOptions } from '../console.options.js';
import type { RedisStreamsConsoleOptions } from '../console.options.js';
import { ConsoleSource } from '../console-source.js';
import { StandaloneAccess } from './access.js';

export interface ServeConsoleOptions extends Pick<RedisStreamsConsoleOptions, 'readOnly' | 'showPayloads' | 'streams'> {
  /** Where the console looks; it stays open. */
  readonly streamer: RedisStreamer;
  /** Default 127.0.0.1, which only users of this machine reach. */
  readonly host?: string;
  /**
   * Names by which the console is reached, beside `localhost`, addresses and {@link host}, such as that of a proxy. Others are refused.
   * Default none.
   */
  readonly allowedHosts?: readonly string[];
  /** Port of the HTTP server; 0 takes a free one. Default 8080. */
  readonly port?: number;
  /** Receives a line for each change, with the user that made it, and for each fault. Default: no log. */
  readonly log?: (line: string) => void;
}

export interface ServedConsole {
  /** With a token: every browser that opens this URL may use the console. */
  readonly url: string;
  /** Ends the server and its event streams; the streamer stays open. */
  close(): Promise<void>;
}

const PATH = 'console';

/**
 * Serves the console without an application, on Express, which has to be installed as `@nestjs/platform-express`.
 * @throws InvalidOptionError; what `listen()` throws, for instance for a port that is taken
 */
export async function serveConsole(options: ServeConsoleOptions): Promise<ServedConsole> {
  const { streamer, host = '127.0.0.1', port = 8_080, allowedHosts = [], log = () => undefined, ...shown } = options;
  const resolved = resolveConsoleOptions({ ...shown, path: PATH, guards: [] });
  const source = new ConsoleSource(() => streamer, false);
  const access = new StandaloneAccess(host, allowedHosts);
  // Nest logs its start, and a start that fails throws.
  let isServing = false;
  const tell = (message: unknown): void => {
    if (isServing) log(String(message));
  };
  const app = await NestFactory.create(rootModule(consoleModule(resolved, source)), {
    logger: { log: tell, warn: tell, error: tell },
    abortOnError: false,
    forceCloseConnections: true,
  });
  app.use(access.check);
  try {
    await app.listen(port, host);
  } catch (error) {
    await app.close();
    throw error;
  }
  isServing = true;
  const { port: taken } = app.getHttpServer().address() as AddressInfo;
  access.port = taken;
  return { url: `http://${named(host)}:${taken}/${PATH}/?token=${access.token}`, close: () => app.close() };
}

function rootModule(imported: ReturnType<typeof consoleModule>): new () => object {
  @Module({ imports: [imported] })
  class StandaloneConsoleModule {}
  return StandaloneConsoleModule;
}

/** As a part of a URL that a browser on this machine can open. */
function named(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::') return '[::1]';
  return host.includes(':') ? `[${host}]` : host;
}
