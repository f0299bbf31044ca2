import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { Delivery } from '../../../lib/engine/options/options.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { uniqueName } from '../../support/redis.js';

const LIMIT = 1024 * 1024;
const LARGE = 'x'.repeat(2 * LIMIT);

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;
let stream: string;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no', '--proto-max-bulk-len', String(LIMIT)] });
  admin = bench.admin(server.url);
  stream = uniqueName('oversized');
});

const small = (from: number): string[] => Array.from({ length: 20 }, (_, index) => `small ${from + index}`);

async function stored(key = stream): Promise<Array<string | undefined>> {
  return (await admin.xrange(key, '-', '+')).map(([, fields]) => fields[1]);
}

/** Sends 20 small messages, a large one and 20 small ones in one turn. */
async function sendAmongSmall(url: string, delivery: Delivery) {
  const streamer = await bench.streamer(url);
  const producer = await streamer.createGenericProducer({ delivery });
  const sent = [...small(0), LARGE, ...small(20)].map((payload) => producer.sendTo(stream, payload));
  const other = producer.sendTo(`${stream}:other`, 'of another stream');
  const outcomes = await Promise.allSettled([...sent, other]);
  return outcomes.map((outcome) => (outcome.status === 'fulfilled' ? 'stored' : outcome.reason));
}

const DELIVERIES = ['at-least-once', 'exactly-once', 'at-most-once'] as const;

describe('a message over the limit of the server', () => {
  it.each(DELIVERIES)('fails alone, and its neighbours are stored once and in order (%s)', async (delivery) => {
    const outcomes = await sendAmongSmall(server.url, delivery);

    expect(outcomes[20]).toMatchObject({ code: 'ERR_PAYLOAD_TOO_LARGE' });
    expect(outcomes.filter((outcome) => outcome !== 'stored')).toHaveLength(1);
    expect(await stored()).toEqual([...small(0), ...small(20)]);
    expect(await stored(`${stream}:other`)).toEqual(['of another stream']);
  });

  it.each(['at-least-once', 'exactly-once'] as const)(
    'fails alone where CONFIG GET is not permitted, and no neighbour is stored more than twice (%s)',
    async (delivery) => {
      const url = await withoutConfig();
      const outcomes = await sendAmongSmall(url, delivery);

      expect(outcomes[20]).toBeInstanceOf(Error);
      expect(outcomes.filter((outcome) => outcome !== 'stored')).toHaveLength(1);
      const payloads = await stored();
      expect([...new Set(payloads)]).toEqual([...small(0), ...small(20)]);
      const most = Math.max(...payloads.map((payload) => payloads.filter((other) => other === payload).length));
      expect(most).toBeLessThanOrEqual(delivery === 'exactly-once' ? 1 : 2);
    },
  );

  it.each(['at-least-once', 'exactly-once'] as const)(
    'fails alone where a proxy ends its connection and the answers to its neighbours are lost: none is stored more than twice (%s)',
    async (delivery) => {
      const proxy = await bench.proxy(server);
      const producer = await (await bench.streamer(proxy.url)).createProducer(stream, { delivery });
      await producer.send('first');
      proxy.refuseText('POISON');
      const outcomes = await Promise.allSettled(
        [...small(0), 'POISON', ...small(20)].map((payload) => producer.send(payload)),
      );

      expect(outcomes.flatMap(({ status }, index) => (status === 'rejected' ? index : []))).toEqual([20]);
      const payloads = await stored();
      expect([...new Set(payloads)]).toEqual(['first', ...small(0), ...small(20)]);
      const most = Math.max(...payloads.map((payload) => payloads.filter((other) => other === payload).length));
      expect(most).toBeLessThanOrEqual(delivery === 'exactly-once' ? 1 : 2);
    },
  );

  it('is not sent when it is over maxPayload, headers included', async () => {
    const producer = await (await bench.streamer(server.url)).createProducer(stream, { maxPayload: 10 });
    const headers = { h: '123456' };
    await expect(producer.send('12345', { headers })).rejects.toMatchObject({ code: 'ERR_PAYLOAD_TOO_LARGE' });
    await producer.send('1234567890');
    expect(await stored()).toEqual(['1234567890']);
  });
});

async function withoutConfig(): Promise<string> {
  await admin.call('ACL', 'SETUSER', 'narrow', 'on', '>secret', '~*', '+@all', '-config');
  return server.url.replace('redis://', 'redis://narrow:secret@');
}
