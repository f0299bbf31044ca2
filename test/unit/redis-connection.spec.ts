import { EventEmitter, once } from 'node:events';

import { afterEach, describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';

import { RedisConnection } from '../../lib/redis/connection/redis-connection.js';
import type { ConnectionRole } from '../../lib/redis/connection/client-factory.js';

/** A client that is ready at once; it has no socket, so it is used the plain way. */
class FakeClient extends EventEmitter {
  status = 'ready';
  readonly options = { enableReadyCheck: false };
  isDisconnected = false;

  /** No command is answered. */
  call(): Promise<unknown> {
    return new Promise(() => undefined);
  }

  /** As with ioredis, the client stays `ready` until its socket has closed. */
  disconnect(): void {
    this.isDisconnected = true;
  }

  end(): void {
    this.status = 'end';
    this.emit('close');
    this.emit('end');
  }
}

const open: Array<{ connection: RedisConnection; clients: FakeClient[] }> = [];
afterEach(async () => {
  for (const { connection, clients } of open.splice(0)) {
    const closed = connection.close();
    for (const client of clients) client.end();
    await closed;
  }
});

function connect(role: ConnectionRole, connectTimeout = 60_000) {
  const clients: FakeClient[] = [];
  const createClient = (): Redis => {
    const client = new FakeClient();
    clients.push(client);
    return client as unknown as Redis;
  };
  const settings = { connectTimeout, replyTimeout: () => 60_000, onMissing: () => undefined };
  const connection = new RedisConnection({ address: 'a server', createClient }, role, settings);
  open.push({ connection, clients });
  return { connection, clients };
}

describe('redis connection', () => {
  it('offers no channel from drop() on, and the next one when the next client is live', async () => {
    const { connection, clients } = connect('writer');
    const first = await connection.ready();

    connection.drop(connection.epoch);
    expect(clients[0]?.isDisconnected).toBe(true);
    expect(connection.channel).toBeUndefined();

    const next = connection.ready();
    clients[0]?.end();
    expect(await next).not.toBe(first);
    expect(connection.epoch).toBe(2);
  });

  it('fails an attempt within the connect timeout when a server answers no more after its greeting', async () => {
    const { connection, clients } = connect('reader', 20);
    connection.open();

    const [failure] = (await once(connection, 'failure')) as [Error];

    expect(failure.message).toContain('not ready within 20 ms');
    expect(clients[0]?.isDisconnected).toBe(true);
    expect(connection.epoch).toBe(0);
  });
});
