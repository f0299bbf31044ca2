import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';

/** A socket for unit tests of one connection: it records what is written, and receives what a test emits as `data`. */
export class FakeSocket extends EventEmitter {
  readonly written: Buffer[] = [];
  corks = 0;
  destroyed = false;

  get asSocket(): Socket {
    return this as unknown as Socket;
  }

  cork(): void {
    this.corks += 1;
  }

  uncork(): void {
    this.corks -= 1;
  }

  write(bytes: Uint8Array): boolean {
    this.written.push(Buffer.from(bytes));
    return true;
  }

  destroy(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    this.emit('close');
  }
}

export type RespValue = Buffer | number | null | Error | RespValue[];

/** A value as RESP2 bytes. */
export function resp(value: RespValue): Buffer {
  if (value === null) return Buffer.from('*-1\r\n');
  if (typeof value === 'number') return Buffer.from(`:${value}\r\n`);
  if (value instanceof Error) return Buffer.from(`-${value.message}\r\n`);
  if (Array.isArray(value)) return Buffer.concat([Buffer.from(`*${value.length}\r\n`), ...value.map(resp)]);
  return Buffer.concat([Buffer.from(`$${value.length}\r\n`), value, Buffer.from('\r\n')]);
}
