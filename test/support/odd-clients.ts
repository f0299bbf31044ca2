import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { AbstractConnector, Redis } from 'ioredis';

/*
 * ioredis clients that an application may create and that differ from a plain one in their stream. Some of them can be
 * taken over, others cannot; all must work.
 */

type Stream = Awaited<ReturnType<AbstractConnector['connect']>>;

const HOST = '127.0.0.1';
const DISCONNECT_TIMEOUT = 200;
const MASK = 0x5a;

/** A client whose stream is the one that `wrap` makes of a socket to the port. */
function clientOver(port: number, wrap: (socket: Socket) => unknown): Redis {
  class Connector extends AbstractConnector {
    constructor() {
      super(DISCONNECT_TIMEOUT);
    }

    override async connect(): Promise<Stream> {
      const socket = connect(port, HOST);
      await once(socket, 'connect');
      this.stream = wrap(socket) as Stream;
      return this.stream;
    }
  }
  return new Redis({ Connector, lazyConnect: true });
}

/** Its stream is a Duplex of the application, with the methods of a socket that ioredis needs. */
export function clientOverDuplex(port: number): Redis {
  return clientOver(port, (socket) => new Tunnel(socket));
}

/** Its stream has no `cork()`. */
export function clientWithoutCork(port: number): Redis {
  return clientOver(port, (socket) => Object.assign(socket, { cork: undefined }));
}

/**
 * Its bytes are encoded on the way, and only ioredis is given the decoded ones: a listener for `data` that is added later
 * gets encoded bytes. The port must be that of a {@link EncodingProxy}.
 */
export function clientWithEncodedBytes(port: number): Redis {
  return clientOver(port, (socket) => {
    const write = socket.write as (this: Socket, data: Uint8Array, ...rest: unknown[]) => boolean;
    const on = socket.on as (this: Socket, event: string, listener: (chunk: Buffer) => void) => Socket;
    let isDecoded = false;
    const listen = (event: string, listener: (chunk: Buffer) => void): Socket => {
      if (event !== 'data' || isDecoded) return on.call(socket, event, listener);
      isDecoded = true;
      return on.call(socket, event, (chunk) => listener(encoded(chunk)));
    };
    return Object.assign(socket, {
      // ioredis only wants to know that something came.
      once: (event: string, listener: (...values: unknown[]) => void): Socket => {
        const heard = (...values: unknown[]): void => {
          socket.removeListener(event, heard);
          listener(...values);
        };
        return on.call(socket, event, heard);
      },
      write: (data: string | Uint8Array, ...rest: unknown[]) =>
        write.call(socket, encoded(Buffer.from(data as string)), ...rest),
      on: listen,
      prependListener: listen,
    });
  });
}

/** Passes bytes on to a port, and encodes or decodes them, which is the same. */
export class EncodingProxy {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets: Set<Socket>;

  static async start(target: number): Promise<EncodingProxy> {
    const sockets = new Set<Socket>();
    const server = createServer((client) => {
      const upstream = connect(target, HOST);
      for (const [from, to] of [
        [client, upstream],
        [upstream, client],
      ] as const) {
        sockets.add(from);
        from.on('data', (chunk: Buffer) => to.write(encoded(chunk)));
        from.on('error', () => to.destroy());
        from.on('close', () => {
          sockets.delete(from);
          to.destroy();
        });
      }
    });
    server.listen(0, HOST);
    await once(server, 'listening');
    return new EncodingProxy(server, sockets);
  }

  private constructor(server: Server, sockets: Set<Socket>) {
    this.#server = server;
    this.#sockets = sockets;
    this.port = (server.address() as { port: number }).port;
  }

  stop(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

function encoded(chunk: Uint8Array): Buffer {
  return Buffer.from(chunk.map((byte) => byte ^ MASK));
}

/** A Duplex over a socket. */
class Tunnel extends Duplex {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    super();
    this.#socket = socket;
    socket.on('data', (chunk) => {
      if (!this.push(chunk)) socket.pause();
    });
    socket.on('end', () => this.push(null));
    socket.on('error', (error) => this.destroy(error));
    socket.on('close', () => this.destroy());
  }

  setNoDelay(isOn: boolean): this {
    this.#socket.setNoDelay(isOn);
    return this;
  }

  setKeepAlive(isOn: boolean, delay: number): this {
    this.#socket.setKeepAlive(isOn, delay);
    return this;
  }

  setTimeout(time: number): this {
    this.#socket.setTimeout(time);
    return this;
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _: string, done: (error?: Error | null) => void): void {
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
