import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { NEEDED, PROMPT_UNBLOCK, SCRIPTS, setUser } from '../../support/acl.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let admin: Redis;
let streamer: RedisStreamer;

const COMMANDS = `${NEEDED} ${SCRIPTS} ${PROMPT_UNBLOCK}`.replace('~app:*', '');
const STREAMS = ['orders', 'payments', 'refunds'] as const;

/** Changes the permissions of the user whose connections are open. */
const permit = async (...keys: readonly string[]): Promise<void> => {
  await admin.call('ACL', 'SETUSER', 'app', 'resetkeys', ...keys.map((key) => `~${key}`));
};

beforeEach(async () => {
  const server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
  await setUser(admin, 'app', `~* ${COMMANDS}`);
  streamer = await bench.streamer(server.url.replace('redis://', 'redis://app:pw@'), { blockTimeout: 200 });
});

const optionsOf = (mode: 'real-time' | 'resumable' | 'load-balanced') =>
  mode === 'real-time'
    ? ({ mode, shardDiscoveryInterval: false } as const)
    : ({ mode, group: 'g', mkStream: true, shardDiscoveryInterval: false } as const);

describe('a stream that the user may not read any more', () => {
  it.each(['real-time', 'resumable', 'load-balanced'] as const)(
    'does not hold up the others, is reported once and seen in health(), and is read again when it may be (%s)',
    async (mode) => {
      const consumer = await streamer.createConsumer(STREAMS, optionsOf(mode) as { mode: 'resumable' });
      const received: string[] = [];
      const reported: Array<{ code: string; message: string }> = [];
      consumer.on('error', (error) => reported.push(error));
      void drain(consumer, (message) => received.push(`${message.streamKey} ${message.text()}`));
      await until('it reads', async () => (await streamer.health()).loops[0]?.lastReadAge !== undefined);

      await permit('orders', 'refunds');
      await until('the refusal is reported', () => reported.length > 0);
      for (const key of STREAMS) await admin.xadd(key, '*', 'msg', '1');
      await until('the others are read', () => received.length === 2, 8_000);
      for (const key of STREAMS) await admin.xadd(key, '*', 'msg', '2');
      await until('the others are read further', () => received.length === 4, 8_000);
      expect(received.sort()).toEqual(['orders 1', 'orders 2', 'refunds 1', 'refunds 2']);
      expect(reported).toEqual([
        expect.objectContaining({ code: 'ERR_PERMISSION', message: expect.stringContaining("'payments'") }),
      ]);
      const { isHealthy, loops } = await streamer.health();
      expect(isHealthy).toBe(false);
      const refusals = loops[0]?.streams.map(({ streamKey, failure, refusal }) => [streamKey, failure, refusal?.code]);
      expect(refusals).toEqual([
        ['orders', undefined, undefined],
        ['payments', undefined, 'ERR_PERMISSION'],
        ['refunds', undefined, undefined],
      ]);

      await permit('*');
      await until('all is received', () => received.length === 6, 15_000);
      expect(received.slice(4)).toEqual(['payments 1', 'payments 2']);
      expect(await streamer.health()).toMatchObject({ isHealthy: true });
    },
  );

  it('several, and at last all of them, are read again when they may be', async () => {
    const consumer = await streamer.createConsumer(STREAMS, optionsOf('load-balanced') as { mode: 'resumable' });
    const received: string[] = [];
    const reported: string[] = [];
    consumer.on('error', (error) => reported.push(error.message));
    void drain(consumer, (message) => received.push(message.streamKey));
    await until('it reads', async () => (await streamer.health()).loops[0]?.lastReadAge !== undefined);

    await permit('orders');
    await until('two are reported', () => reported.length === 2);
    await admin.xadd('orders', '*', 'msg', 'x');
    await until('the other is read', () => received.length === 1, 8_000);
    await permit('none');
    await until('the whole loop is refused', async () => (await streamer.health()).loops[0]?.refusal !== undefined);
    for (const key of STREAMS) await admin.xadd(key, '*', 'msg', 'x');
    const before = await commandsCalled();
    await until('some time has passed', async () => (await streamer.health({ timeout: 1_000 })).loops.length === 1);
    expect((await commandsCalled()) - before).toBeLessThan(100);

    await permit('*');
    await until('all is received', () => received.length === 4, 10_000);
    await until('it is healthy', async () => (await streamer.health()).isHealthy, 15_000);
  });

  it('does not prevent that entries of dead consumers are claimed from the others', async () => {
    const consumer = await streamer.createConsumer(['orders', 'payments'], {
      mode: 'load-balanced',
      group: 'g',
      mkStream: true,
      shardDiscoveryInterval: false,
      autoClaimIdle: 500,
      autoClaimInterval: 50,
    });
    await permit('orders');
    await until('it is refused', async () => {
      return (await streamer.health()).loops[0]?.streams.some(({ refusal }) => refusal !== undefined) ?? false;
    });
    await admin
      .multi()
      .xadd('orders', '*', 'msg', 'of the dead')
      .call('XREADGROUP', 'GROUP', 'g', 'dead', 'STREAMS', 'orders', '>')
      .exec();
    const taken = await consumer.next({ signal: AbortSignal.timeout(5_000) });
    expect([taken.text(), taken.deliveryCount]).toEqual(['of the dead', 2]);
  });
});

async function commandsCalled(): Promise<number> {
  return Number(/total_commands_processed:(\d+)/.exec(await admin.info('stats'))?.[1]);
}
