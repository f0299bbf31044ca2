import { Redis } from 'ioredis';

const ended = new WeakSet<Redis>();

/** A client that reconnects to its server until {@link endClient} is called. @param enableReadyCheck false where there is no INFO */
export function nodeClient(url: string, enableReadyCheck = true): Redis {
  const client: Redis = new Redis(url, {
    protocol: 2,
    enableReadyCheck,
    retryStrategy: () => (ended.has(client) ? null : 50),
    maxRetriesPerRequest: 100,
    disconnectTimeout: 100,
  });
  client.on('error', () => undefined);
  return client;
}

/** Disconnects a client for good: disconnect() alone would not stop a client that waits to reconnect. */
export function endClient(client: Redis): void {
  ended.add(client);
  client.disconnect();
}
