import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;
let streamer: RedisStreamer;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
  streamer = await bench.streamer(server.url);
});

const pendingCount = async (): Promise<unknown> => (await admin.xpending('s', 'g'))[0];
const warnings = (): string[] => bench.log.filter((line) => line.includes('trimmed or deleted while pending'));
const send = async (...texts: string[]): Promise<void> => {
  const producer = await streamer.createProducer('s');
  await Promise.all(texts.map((text) => producer.send(text)));
};

describe('entries that are trimmed while they are pending', () => {
  it('for a consumer that restarts are acknowledged and logged once, and the rest is handed out', async () => {
    const options = { mode: 'resumable', group: 'g', mkStream: true, autoCommit: 'disabled' } as const;
    const before = await streamer.createConsumer('s', options);
    await send('1', '2', '3', '4');
    for (let index = 0; index < 4; index += 1) await before.next();
    await before.end();
    await admin.xtrim('s', 'MAXLEN', 1);

    const after = await streamer.createConsumer('s', options);
    const message = await after.next();

    expect([message.text(), message.deliveryCount]).toEqual(['4', 2]);
    await until('only this message is pending', async () => (await pendingCount()) === 1);
    expect(warnings()).toHaveLength(1);
  });

  it('for a dead consumer are acknowledged by the consumer that scans for idle entries', async () => {
    const options = { mode: 'load-balanced', group: 'g', mkStream: true } as const;
    const dead = await streamer.createConsumer('s', { ...options, autoCommit: 'disabled', autoClaimInterval: false });
    await send('1', '2', '3', '4', '5');
    for (let index = 0; index < 5; index += 1) await dead.next();
    await dead.end();
    const ids = (await admin.xrange('s', '-', '+')).map(([id]) => id);
    await admin.xdel('s', ids[1] as string, ids[3] as string);

    const times = { autoClaimIdle: 100, autoClaimInterval: 50 } as const;
    const live = await streamer.createConsumer('s', {
      ...options,
      ...times,
      autoCommit: 'rolling',
      autoCommitInterval: 0,
    });
    const texts: string[] = [];
    while (texts.length < 3) {
      const message = await live.next();
      texts.push(message.text());
      live.ack(message);
    }

    expect(texts).toEqual(['1', '3', '5']);
    await until('nothing is pending', async () => (await pendingCount()) === 0);
    expect(warnings().length).toBeLessThanOrEqual(1);
  });

  it('and buffered in this process are still handed out, and their acks cause no error', async () => {
    const options = { mode: 'load-balanced', group: 'g', mkStream: true, autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer('s', options);
    await send('1', '2');
    const first = await consumer.next();
    await until('the other message is buffered', async () => (await pendingCount()) === 2);
    await admin.xtrim('s', 'MAXLEN', 0);

    const second = await consumer.next();
    expect([first.text(), second.text()]).toEqual(['1', '2']);
    consumer.ack(first);
    consumer.ack(second);
    await consumer.commit();
    expect(await pendingCount()).toBe(0);
  });
});
