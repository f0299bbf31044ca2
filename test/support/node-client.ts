import { Redis } from 'ioredis';

const unwanted = new WeakSet<Redis>();

/** A client that waits for its server to come back for as long as it is wanted. */
export function nodeClient(url: string): Redis {
  const client: Redis = new Redis(url, {
    protocol: 2,
    retryStrategy: () => (unwanted.has(client) ? null : 50),
    maxRetriesPerRequest: 100,
    disconnectTimeout: 100,
  });
  client.on('error', () => undefined);
  return client;
}

/** Told to disconnect while it waits to reconnect, a client would go on doing so; this one does not. */
export function endClient(client: Redis): void {
  unwanted.add(client);
  client.disconnect();
}
