import type { Redis } from 'ioredis';
import { beforeEach, describe, expect } from '@jest/globals';

import { DEAD_LETTER_HEADERS } from '../../../lib/engine/settling/dead-letter.js';
import type { Delivery, StreamProducer, TimestampFormat } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { nanosecondTests } from '../../support/nanoseconds.js';
import type { RedisServer } from '../../support/redis-server.js';
import { numbers } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const NANOSECONDS = { timestampFormat: 'ns' } as const;
const DELIVERIES = ['at-least-once', 'at-most-once', 'exactly-once'] as const;
const LIMIT = 1024 * 1024;
const FAR = '9000000000000000000-0';

let server: RedisServer;
let admin: Redis;
let stream: string;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no', '--proto-max-bulk-len', String(LIMIT)] });
  admin = bench.admin(server.url);
  stream = 'ticks';
});

async function producerWithout(
  command: string,
  delivery: Delivery,
  timestampFormat: TimestampFormat = 'ns',
): Promise<StreamProducer> {
  await admin.call('ACL', 'SETUSER', 'narrow', 'reset', 'on', '>secret', '~*', '+@all', `-${command}`);
  const url = server.url.replace('redis://', 'redis://narrow:secret@');
  return (await bench.streamer(url, { timestampFormat })).createGenericProducer({ delivery });
}

const stored = async (key: string): Promise<Array<string | undefined>> =>
  (await admin.xrange(key, '-', '+')).map(([, fields]) => fields[1]);

const itSends = nanosecondTests({
  info: () => admin.info('server'),
  producer: async () => (await bench.streamer(server.url, NANOSECONDS)).createProducer(stream),
});

describe("timestampFormat: 'ns'", () => {
  describe.each(DELIVERIES)('%s', (delivery) => {
    itSends('refuses to send where XINFO is not permitted, for the last id of the stream is not known', async () => {
      await admin.xadd('coarse', '*', 'msg', 'theirs');
      await admin.xadd('ahead', FAR, 'msg', 'theirs');
      const producer = await producerWithout('xinfo', delivery);
      const hour = { deduplication: { id: 'a', within: 3_600_000 } };
      for (const key of ['coarse', 'ahead', 'new']) {
        for (const options of [{}, { timestamp: new Date() }, hour, { delay: 10 }]) {
          await expect(producer.sendTo(key, 'ours', options)).rejects.toMatchObject({ code: 'ERR_PERMISSION' });
        }
      }
      expect([await stored('coarse'), await stored('ahead')]).toEqual([['theirs'], ['theirs']]);
      expect((await admin.keys('*')).filter((key) => !key.includes(':producer:')).sort()).toEqual(['ahead', 'coarse']);
    });

    itSends('stores the neighbours of a message over the limit, where CONFIG GET is not permitted', async () => {
      const producer = await producerWithout('config', delivery);
      const payloads = [...numbers(0, 9), 'x'.repeat(2 * LIMIT), ...numbers(10, 19)];
      const outcomes = await Promise.allSettled(payloads.map((payload) => producer.sendTo(stream, payload)));
      expect(outcomes[10]?.status).toBe('rejected');
      const isStored = await stored(stream);
      const confirmed = payloads.filter((_, index) => outcomes[index]?.status === 'fulfilled');
      expect([...new Set(isStored)].filter((payload) => confirmed.includes(payload as string))).toEqual(confirmed);
      const codes = outcomes.flatMap((outcome, index) =>
        outcome.status === 'rejected' && index !== 10 ? [(outcome.reason as { code: string }).code] : [],
      );
      // The refusal may be lost when the server closes the connection, and at-most-once sends nothing twice.
      expect(codes).toEqual(delivery === 'at-most-once' ? codes.map(() => 'ERR_SEND_UNCERTAIN') : []);
    });
  });

  itSends(
    'leaves a delayed message where it is while XINFO is not permitted to the streamer that moves it',
    async () => {
      const streamer = await bench.streamer(server.url, NANOSECONDS);
      await (await streamer.createProducer(stream)).send('later', { delay: 1_000 });
      await streamer.disconnect();
      const mover = await producerWithout('xinfo', 'at-least-once', 'ms');
      await mover.sendTo(stream, 'last', { delay: 1_001 });
      await until('the refusal is reported', () => bench.log.some((line) => line.includes(stream)));
      expect(await stored(stream)).toEqual([]);
      await admin.call('ACL', 'SETUSER', 'narrow', '+xinfo');
      await until('both are moved', async () => (await admin.xlen(stream)) === 2);
      expect(await stored(stream)).toEqual(['later', 'last']);
      const [[id]] = (await admin.xrange(stream, '-', '+')) as [[string, string[]]];
      expect(id).toHaveLength('1700000000123456789-0'.length);
    },
  );

  itSends('returns dead letters also after SCRIPT FLUSH', async () => {
    const streamer = await bench.streamer(server.url, NANOSECONDS);
    const { id } = await (await streamer.createProducer(stream)).send('gone');
    await admin.xgroup('CREATE', stream, 'g', '$');
    await admin.xdel(stream, id);
    const names = DEAD_LETTER_HEADERS;
    const origin = {
      [names.stream]: stream,
      [names.key]: stream,
      [names.id]: id,
      [names.group]: 'g',
      [names.consumer]: 'c',
    };
    const headers = Object.entries(origin).flatMap(([name, value]) => [`h:${name}`, value]);
    for (const payload of numbers(0, 2)) await admin.xadd('dead', '*', 'msg', payload, ...headers);
    const manager = await streamer.createManager();
    await expect(manager.redrive('dead', { limit: 1 })).resolves.toMatchObject({ redriven: 1 });
    await admin.script('FLUSH');
    await expect(manager.redrive('dead')).resolves.toEqual({ redriven: 2, skipped: 0 });
    expect(await stored(stream)).toEqual(numbers(0, 2));
  });
});
