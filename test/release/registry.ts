import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

/** What npm sends of a package that it publishes, and expects of one that it looks for. */
interface Packument {
  readonly 'dist-tags': Record<string, string>;
  readonly versions: Record<string, { dist: { integrity: string } }>;
}

/** A registry in memory, with the requests for packages that npm sends. */
export class Registry {
  /** In the order in which they were published. */
  readonly packages = new Map<string, Packument>();
  /** Decides which requests fail. */
  isBroken = (_method: string, _name: string): boolean => false;
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
    server.on('request', (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response));
  }

  static async start(): Promise<Registry> {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Registry(server);
  }

  /** Makes npm use this registry, without further attempts. */
  environment(): NodeJS.ProcessEnv {
    const origin = `//127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
    return {
      npm_config_registry: `http:${origin}`,
      [`npm_config_${origin}:_authToken`]: 'secret',
      npm_config_fetch_retries: '0',
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, 'close');
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '' } = request;
    const name = /^\/([\w-]+)/.exec(url)?.[1] ?? '';
    const body = method === 'PUT' ? ((await json(request)) as Packument) : undefined;
    if (this.isBroken(method, name)) {
      reply(response, 500, {});
      return;
    }
    if (body) this.packages.set(name, body);
    const known = this.packages.get(name);
    reply(response, known ? 200 : 404, known ?? {});
  }
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
