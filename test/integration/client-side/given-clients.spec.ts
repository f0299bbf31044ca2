import { describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';

import { RedisStreamer } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { numbers } from '../../support/streams.js';
import { until } from '../../support/until.js';

const SILENT = { error: () => undefined, warn: () => undefined, log: () => undefined };
const bench = new FaultBench();

describe('a client that a function of the application returned', () => {
  it('refuses commands of the application, so that no reply to them is taken for the reply to a send', async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const admin = bench.admin(server.url);
    const clients: Redis[] = [];
    const streamer = await bench.streamer(() => {
      const client = new Redis(server.url);
      clients.push(client);
      return client;
    });
    const producer = await streamer.createProducer('s');
    const refusals: string[] = [];
    const misuse = (): void => {
      for (const client of clients) {
        client.echo('1-1').catch(({ message }: Error) => refusals.push(message));
        void client.pipeline().echo('2-2').exec();
      }
    };
    const receipts = numbers(0, 99).map((payload) => {
      const receipt = producer.send(payload);
      setImmediate(misuse);
      return receipt;
    });
    const ids = (await Promise.all(receipts)).map(({ id }) => id);

    expect((await admin.xrange('s', '-', '+')).map(([id]) => id)).toEqual(ids);
    expect(refusals[0]).toMatch(/belongs to nestjs-redis-streams/);
    expect((await streamer.health()).reconnects).toBe(0);
  });

  it('must be a new one: one that was returned before fails connect() at once', async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const client = new Redis(server.url, { lazyConnect: true });
    await expect(bench.streamer(() => client)).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining('must return a new client on each call'),
    });
  });

  it.each<[what: string, make: (url: string) => unknown, rule: string]>([
    ['a promise of a client', async (url) => new Redis(url), 'the function cannot be async'],
    ['options', (url) => ({ url }), 'must return an ioredis client'],
    ['a client of another kind', () => ({ sendCommand: () => 1, connect: () => 1, options: {} }), 'an ioredis client'],
    ['a client with a database that is no number', (url) => new Redis(url, { db: Number.NaN }), 'connection().db'],
    ['a Cluster after a client', (url) => new Cluster([url]), 'must return clients of one kind'],
  ])('that cannot be used ends connect() at once, also when it is not the first: %s', async (_, make, rule) => {
    const { url } = await bench.server({ args: ['--appendonly', 'no'] });
    for (const first of [1, 2]) {
      let calls = 0;
      const next = (): unknown => ((calls += 1) < first ? new Redis(url) : make(url));
      if (first === 1 && rule.includes('one kind')) continue;
      await expect(
        RedisStreamer.connect(next as () => Redis, { timeout: 60_000, logger: SILENT }),
      ).rejects.toMatchObject({
        code: 'ERR_INVALID_OPTION',
        retryable: false,
        message: expect.stringContaining(rule),
      });
    }
    // What was made and refused has no owner: nothing of it may stay connected.
    const admin = bench.admin(url);
    const others = async (): Promise<number> =>
      String(await admin.client('LIST'))
        .trim()
        .split('\n').length - 1;
    await until('no refused client is connected', async () => (await others()) === 0);
  });

  it('is named by its address in errors and in the log', async () => {
    const { port } = await bench.server({ args: ['--appendonly', 'no', '--requirepass', 'right'] });
    const make = (): Redis => new Redis({ port, password: 'wrong', lazyConnect: true });
    const refusal = await RedisStreamer.connect(make, { logger: SILENT }).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: 'ERR_PERMISSION', message: expect.stringContaining(`localhost:${port}`) });
  });

  it('cannot be made by a function that throws: the error names the reason', async () => {
    const fail = (): Redis => {
      throw new Error('no such secret');
    };
    await expect(bench.streamer(fail)).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining('no such secret'),
    });
  });
});
