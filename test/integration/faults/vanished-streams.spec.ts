import type { Redis } from 'ioredis';
import { beforeEach, describe, expect, it } from '@jest/globals';

import type { StreamConsumer } from '../../../lib/index.js';
import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain, sendMany } from '../../support/fault-bench.js';
import { Ledger } from '../../support/ledger.js';
import type { RedisServer } from '../../support/redis-server.js';
import { takeTexts } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
let server: RedisServer;
let admin: Redis;
let streamer: RedisStreamer;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  admin = bench.admin(server.url);
  streamer = await bench.streamer(server.url, { blockTimeout: 1_000 });
});

const blockedReads = async (): Promise<number> =>
  Number(/blocked_clients:(\d+)/.exec(await admin.info('clients'))?.[1] ?? 0);

const untilBlocked = (): Promise<void> => until('the read is blocked', async () => (await blockedReads()) > 0);

const expire = async (key: string): Promise<void> => {
  await admin.pexpire(key, 1);
  // The consumer may have created it again before the first look.
  await until('the stream has expired', async () => (await admin.xlen(key)) === 0);
};

const GROUP = { group: 'g', mkStream: true } as const;

const faults: ReadonlyArray<readonly [string, () => Promise<unknown>]> = [
  ['the stream is deleted', () => admin.del('s')],
  ['everything is flushed', () => admin.flushall()],
  ['the stream is renamed', () => admin.rename('s', 'elsewhere')],
  ['the stream expires', () => expire('s')],
  ['the group is destroyed', () => admin.xgroup('DESTROY', 's', 'g')],
];

describe('while a read is blocked', () => {
  describe.each(['resumable', 'load-balanced'] as const)('of a %s consumer', (mode) => {
    it.each(faults)(
      '%s: group and stream are recreated, and every message from then on is delivered once',
      async (_, snapshotAndRun) => {
        const ledger = new Ledger();
        const consumer = await streamer.createConsumer('s', { mode, ...GROUP });
        void drain(consumer, (message) => ledger.handledMessage(message));
        const producer = await streamer.createProducer('s');
        await sendMany(producer, ledger, 20, { prefix: 'before' });
        await until('all messages sent before are handled', () => ledger.handled === 20);
        await untilBlocked();

        await snapshotAndRun();
        await sendMany(producer, ledger, 20, { prefix: 'after' });
        const account = await ledger.settled(5_000);

        expect({ ...account, confirmed: ledger.confirmed }).toEqual({ lost: [], duplicates: new Map(), confirmed: 40 });
      },
    );
  });

  it('the stream is deleted: a real-time consumer receives all of the new stream, even with lower ids', async () => {
    await admin.xadd('s', '1000-0', 'msg', 'old');
    const consumer = await streamer.createConsumer('s', { mode: 'real-time' });
    await untilBlocked();
    await admin.del('s');
    await admin.xadd('s', '5-0', 'msg', 'new');

    expect((await consumer.next()).text()).toBe('new');
  });

  it.each(['earliest', 'latest'] as const)(
    'the stream loses its last entries, as by a failover: a real-time consumer repeats no other (from the %s)',
    async (autoStreamReset) => {
      const ranges = async (): Promise<number> =>
        Number(/^cmdstat_xrange:calls=(\d+)/m.exec(await admin.info('commandstats'))?.[1] ?? 0);
      await admin.xadd('s', '1000-0', 'msg', 'old');
      const replicated = await admin.dumpBuffer('s');
      const consumer = await streamer.createConsumer('s', { mode: 'real-time', autoStreamReset });
      await admin.xadd('s', '2000-0', 'msg', 'lost');
      const read = autoStreamReset === 'latest' ? ['lost'] : ['old', 'lost'];
      expect(await takeTexts(consumer, read.length)).toEqual(read);
      await admin.restore('s', 0, replicated, 'REPLACE');
      await until('the consumer has looked for the last entries', async () => (await ranges()) > 0);
      await untilBlocked();
      await admin.xadd('s', '1500-0', 'msg', 'new');

      expect((await consumer.next()).text()).toBe('new');
    },
  );

  it('no message is sent afterwards: the group is recreated within the block time', async () => {
    await streamer.createConsumer('s', { mode: 'load-balanced', ...GROUP });
    await untilBlocked();
    await admin.del('s');
    const limit = 1_000 + 700;

    await until('the group is recreated', async () => (await admin.exists('s')) === 1, limit);
    expect(await admin.xinfo('GROUPS', 's')).toHaveLength(1);
  });

  it('the group is destroyed repeatedly: nothing is lost and the consumer does not spin', async () => {
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', ...GROUP });
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createProducer('s');
    for (let round = 0; round < 10; round += 1) {
      await sendMany(producer, ledger, 10, { prefix: `round${round}` });
      await admin.xgroup('DESTROY', 's', 'g');
    }
    const { lost } = await ledger.settled();

    expect(lost).toEqual([]);
    expect(bench.log.filter((line) => line.includes('had vanished')).length).toBeLessThanOrEqual(10);
  });

  it('one of several streams loses its group: all of them continue', async () => {
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer(['s', 't', 'u'], { mode: 'load-balanced', ...GROUP });
    void drain(consumer, (message) => ledger.handledMessage(message));
    await untilBlocked();
    await admin.xgroup('DESTROY', 't', 'g');
    for (const key of ['s', 't', 'u']) await sendMany(await streamer.createProducer(key), ledger, 10, { prefix: key });

    expect(await ledger.settled()).toEqual({ lost: [], duplicates: new Map() });
  });
});

describe('a destroyed group', () => {
  it('is recreated by the first command that needs it: the scan for idle entries does not block on it', async () => {
    const options = { mode: 'load-balanced', ...GROUP, autoClaimInterval: 50, autoClaimIdle: 60_000 } as const;
    const consumer = await streamer.createConsumer('s', options);
    await admin.flushall();
    await admin.xadd('s', '*', 'msg', 'after');

    const message = await consumer.next({ signal: AbortSignal.timeout(3_000) });
    expect(message.text()).toBe('after');
  });

  it('does not lose messages that this process still has: buffered and running messages are pending again', async () => {
    const options = { mode: 'load-balanced', ...GROUP, autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer('s', options);
    const producer = await streamer.createProducer('s');
    for (const text of ['acked', 'running', 'buffered']) await producer.send(text);
    consumer.ack(await consumer.next());
    await consumer.commit();
    const running = await consumer.next();
    await untilBlocked();
    await admin.xgroup('DESTROY', 's', 'g');
    await until('both are pending', async () => (await admin.xpending('s', 'g').catch(() => [0]))[0] === 2);

    consumer.ack(running);
    await consumer.end();
    const other = await streamer.createConsumer('s', { ...options, autoClaimIdle: 100, autoClaimInterval: 50 });
    expect((await other.next({ signal: AbortSignal.timeout(3_000) })).text()).toBe('buffered');
  });

  it('of one stream takes nothing back in the group of another, which never vanished', async () => {
    const options = { mode: 'load-balanced', ...GROUP, autoCommit: 'disabled', autoClaimInterval: false } as const;
    const consumer = await streamer.createConsumer(['s', 't'], options);
    await admin.xadd('t', '1-0', 'msg', 'acked');
    await admin.xadd('t', '2-0', 'msg', 'running');
    consumer.ack(await consumer.next());
    await consumer.next();
    await admin.xclaim('t', 'g', 'other', 0, '2-0');
    await admin.xack('t', 'g', '2-0');
    await untilBlocked();

    await admin.xgroup('DESTROY', 's', 'g');
    await until('the group is created again', () => bench.log.some((line) => line.includes('created again')));
    await untilBlocked();

    const pending = (await admin.xpending('t', 'g', '-', '+', 10)) as Array<[id: string]>;
    expect(pending.map(([id]) => id)).toEqual(['1-0']);
  });

  it('does not lose them either when it is replaced while the consumer waits for several messages', async () => {
    const options = { mode: 'load-balanced', ...GROUP, autoCommit: 'disabled', autoClaimInterval: false } as const;
    const consumer = await streamer.createConsumer('s', options);
    const batch = admin.pipeline();
    for (const text of ['0', '1', '2', '3', '4']) batch.xadd('s', '*', 'msg', text);
    await untilBlocked();
    await batch.exec();
    await until('all are read', async () => (await streamer.health()).loops[0]?.buffered === 5);
    await untilBlocked();

    await admin
      .pipeline()
      .xgroup('DESTROY', 's', 'g')
      .xgroup('CREATE', 's', 'g', '$')
      .xadd('s', '*', 'msg', '5')
      .exec();

    await until('all are pending again', async () => (await admin.xpending('s', 'g'))[0] === 6);
    expect(await takeTexts(consumer, 6)).toEqual(['0', '1', '2', '3', '4', '5']);
  });

  it.each([
    ['load-balanced', 2],
    ['resumable', 1],
  ] as const)('loses nothing that %s consumers had read before they were paused', async (mode, count) => {
    const options = { mode, ...GROUP, autoCommit: 'disabled', autoStreamReset: 'earliest', prefetch: 5 } as const;
    const producer = await streamer.createProducer('s');
    const consumers: StreamConsumer[] = [];
    const all: string[] = [];
    for (let instance = 0; instance < count; instance += 1) {
      const texts = Array.from({ length: 5 }, (_, index) => `${instance}-${index}`);
      all.push(...texts);
      await Promise.all(texts.map((text) => producer.send(text)));
      const other = await bench.streamer(server.url);
      consumers.push((await other.createConsumer('s', options as never)) as unknown as StreamConsumer);
      await until('all are buffered', async () => (await other.health()).loops[0]?.buffered === 5);
    }
    await Promise.all(consumers.map((consumer) => consumer.pause()));
    await admin.xgroup('DESTROY', 's', 'g');
    await Promise.all(consumers.map((consumer) => consumer.resume()));
    // The one that creates the group may be given what the other had, too.
    const seen = new Set<string>();
    for (const consumer of consumers) void drain(consumer, (message) => seen.add(message.text()));
    await until('all are handed out', () => all.every((text) => seen.has(text)));
  });

  it('leaves no message pending that is acknowledged while the group is created again', async () => {
    const proxy = await bench.proxy(server);
    const slow = await bench.streamer(proxy.url, { blockTimeout: 1_000 });
    const options = { mode: 'load-balanced', ...GROUP, autoCommit: 'rolling', autoCommitInterval: 1 } as const;
    const consumer = await slow.createConsumer('s', options);
    await admin.xadd('s', '*', 'msg', 'running');
    const message = await consumer.next();
    // From the reply of XGROUP CREATE on, the consumer takes two round trips until the message is pending again.
    proxy.delay(100);
    await admin.xgroup('DESTROY', 's', 'g');
    await until('the group is created again', () => bench.log.some((line) => line.includes('created again')));
    consumer.ack(message);

    await admin.xadd('s', '*', 'msg', 'next');
    const next = await consumer.next();
    expect(next.text()).toBe('next');
    consumer.ack(next);
    await until('nothing is pending', async () => (await admin.xpending('s', 'g'))[0] === 0);
  });
});

describe('a consumer that is deleted while it lives', () => {
  it('continues, and hands out its buffered messages', async () => {
    const options = { mode: 'load-balanced', ...GROUP, consumer: 'me', autoCommit: 'rolling' } as const;
    const consumer = await streamer.createConsumer('s', options);
    const producer = await streamer.createProducer('s');
    await Promise.all([producer.send('1'), producer.send('2')]);
    const first = await consumer.next();
    await untilBlocked();
    await admin.xgroup('DELCONSUMER', 's', 'g', 'me');
    await producer.send('3');

    expect([first, await consumer.next(), await consumer.next()].map((message) => message.text())).toEqual([
      '1',
      '2',
      '3',
    ]);
  });

  it('is never deleted by this package while entries are pending for it', async () => {
    const options = { mode: 'load-balanced', ...GROUP, consumer: 'me', autoCommit: 'disabled' } as const;
    const consumer = await streamer.createConsumer('s', options);
    await (await streamer.createProducer('s')).send('x');
    await consumer.next();
    await consumer.end();

    expect((await admin.xpending('s', 'g'))[0]).toBe(1);
  });
});

describe('a stream that is overwritten by another type', () => {
  const overwrite = async (key: string): Promise<void> => {
    await admin.del(key);
    await admin.set(key, 'a string');
  };

  const firstFailure = async (consumer: StreamConsumer): Promise<unknown> => {
    for (;;) {
      try {
        await consumer.next({ signal: AbortSignal.timeout(5_000) });
      } catch (error) {
        return error;
      }
    }
  };

  it.each(['real-time', 'resumable', 'load-balanced'] as const)(
    'is reported once; the other streams continue (%s)',
    async (mode) => {
      const options = mode === 'real-time' ? { mode } : { mode, ...GROUP };
      const consumer = await streamer.createConsumer(['s', 't'], options);
      await overwrite('s');

      expect(await firstFailure(consumer)).toMatchObject({ code: 'ERR_WRONG_TYPE', streamKey: 's' });
      const producer = await streamer.createProducer('t');
      for (const text of ['1', '2', '3']) await producer.send(text);
      for (const text of ['1', '2', '3']) expect((await consumer.next()).text()).toBe(text);
    },
  );

  it('fails each next() when it was the only stream', async () => {
    const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', ...GROUP });
    await overwrite('s');

    for (let call = 0; call < 2; call += 1)
      expect(await firstFailure(consumer)).toMatchObject({ code: 'ERR_WRONG_TYPE' });
    await consumer.end();
  });

  it('refuses sends and consumers at once', async () => {
    await overwrite('s');
    const producer = await streamer.createProducer('s');

    await expect(producer.send('x')).rejects.toMatchObject({ code: 'ERR_WRONG_TYPE', streamKey: 's' });
    await expect(streamer.createConsumer('s', { mode: 'load-balanced', ...GROUP })).rejects.toMatchObject({
      code: 'ERR_WRONG_TYPE',
    });
    await expect(producer.sendTo('t', 'y')).resolves.toMatchObject({ streamKey: 't' });
  });

  it('does not stop the lease renewal of other streams', async () => {
    const options = { mode: 'load-balanced', ...GROUP, autoClaimIdle: 600, autoCommit: 'rolling' } as const;
    const consumer = await streamer.createConsumer(['s', 't'], options);
    const producer = await streamer.createGenericProducer();
    await producer.sendTo('s', 'of s');
    await consumer.next();
    await producer.sendTo('t', 'of t');
    await consumer.next();
    await overwrite('s');

    const idle = async (): Promise<number> => {
      const [entry] = (await admin.xpending('t', 'g', '-', '+', 1)) as Array<[string, string, number, number]>;
      return entry?.[2] ?? Infinity;
    };
    for (let round = 0; round < 3; round += 1) {
      let before = 0;
      await until('its lease is renewed', async () => {
        const now = await idle();
        const isRenewed = now < before;
        before = now;
        return isRenewed;
      });
    }
  });
});
