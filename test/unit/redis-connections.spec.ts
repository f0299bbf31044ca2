import { EventEmitter } from 'node:events';

import { describe, expect, it } from '@jest/globals';
import type { Redis } from 'ioredis';

import { ClosedError, InvalidOptionError } from '../../lib/errors.js';
import { RedisConnections } from '../../lib/redis/connection/redis-connections.js';

const TIMES = { connectTimeout: 1_000, replyTimeout: 1_000, blockTimeout: 1_000 };
const LOGGER = { error: () => undefined, warn: () => undefined, log: () => undefined };

describe('redis connections', () => {
  it('create no client after close(), for nothing would end it', async () => {
    let calls = 0;
    const create = (): never => {
      calls += 1;
      throw new Error('no client');
    };
    const connections = new RedisConnections(create, TIMES, LOGGER);
    await connections.close();

    await expect(connections.control.ready('key', 1_000)).rejects.toBeInstanceOf(ClosedError);
    await expect(connections.connect(1_000)).rejects.toBeInstanceOf(ClosedError);
    expect(calls).toBe(0);
  });

  it('refuse a function that returns the same client twice at once, without repeating it until the timeout', async () => {
    const client = Object.assign(new EventEmitter(), {
      status: 'wait',
      options: {},
      isCluster: false,
      sendCommand: () => undefined,
      connect: () => new Promise(() => undefined),
      disconnect: () => client.emit('end'),
    });
    const connections = new RedisConnections(() => client as unknown as Redis, TIMES, LOGGER);

    await expect(connections.connect(60_000)).rejects.toBeInstanceOf(InvalidOptionError);
    await connections.close();
  });
});
