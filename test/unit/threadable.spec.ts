import tls from 'node:tls';
import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import { RedisStreamer, ServerRedisStreams } from '../../lib/index.js';
import { RenewalClient } from '../../lib/redis/connection/renewal-thread.js';
import { RENEW_LEASES } from '../../lib/redis/scripts/renew-leases.js';
import type { ConsumerOptions, RedisStreamsConnection } from '../../lib/index.js';

const thread = { mode: 'load-balanced', leaseRenewal: 'thread' } as const;

/** Nothing listens there, so that only what is refused before any I/O fails at once. */
async function refusal(connection: RedisStreamsConnection, options: object = thread): Promise<unknown> {
  const streamer = new RedisStreamer(connection, { timeout: 60_000 });
  try {
    await streamer.createConsumer('s', options as ConsumerOptions & { mode: 'load-balanced' });
    return undefined;
  } catch (error) {
    return error;
  } finally {
    expect(streamer.isUsed).toBe(false);
    await streamer.disconnect();
  }
}

describe("leaseRenewal 'thread' is refused before any I/O", () => {
  it('where connection is a function', async () => {
    const message = /leaseRenewal.*cannot be 'thread' where connection is a function.*got .thread./;
    expect(await refusal(() => new Redis(1))).toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringMatching(message),
    });
    const server = { group: 'g', connection: () => new Redis(1), leaseRenewal: 'thread' } as const;
    expect(() => new ServerRedisStreams(server)).toThrow(message);
  });

  it.each([
    ['connection.Connector', { port: 1, Connector: class {} }],
    ['connection.tls.checkServerIdentity', { port: 1, tls: { checkServerIdentity: () => undefined } }],
    ['connection.tls.secureContext', { port: 1, tls: { secureContext: tls.createSecureContext() } }],
    [
      'connection.options.redisOptions.tls.checkServerIdentity',
      { cluster: ['localhost:1'], options: { redisOptions: { tls: { checkServerIdentity: () => undefined } } } },
    ],
  ])('where %s cannot be passed to a thread', async (option, connection) => {
    const error = await refusal(connection as RedisStreamsConnection);
    expect(error).toMatchObject({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining(option) });
    expect((error as Error).message).toContain("cannot be combined with leaseRenewal 'thread'");
  });

  it.each([
    [{ ...thread, autoCommit: 'immediate' }, "must be 'loop' with autoCommit 'immediate'"],
    [{ mode: 'resumable', leaseRenewal: 'thread' }, 'is for load-balanced mode only'],
    [{ ...thread, leaseRenewal: 'worker' }, "must be one of 'loop', 'thread'"],
    [{ ...thread, maxHandlerTime: 0 }, 'must be a whole number of milliseconds from 1'],
  ])('with %j', async (options, rule) => {
    expect((await refusal({ port: 1 }, options)) as Error).toMatchObject({ message: expect.stringContaining(rule) });
  });
});

it('nothing is renewed for a consumer that has ended, so that no thread starts again', async () => {
  let looks = 0;
  const find = (): undefined => void (looks += 1);
  const client = new RenewalClient({ find }, { every: 1_000, limit: 1_000, onFailure: () => undefined });
  await client.close();
  client.setLeases([{ key: 's', script: RENEW_LEASES, args: [] }]);
  client.addEntries('s', ['1-0']);
  expect(looks).toBe(0);
  expect(client.renewedAt('s')).toBe(-Infinity);
});
