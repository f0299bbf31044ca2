import { randomBytes } from 'node:crypto';
import { describe, expect, it } from '@jest/globals';

import type {
  AcknowledgingConsumer,
  AutoCommit,
  BasicConsumer,
  Delivery,
  Payload,
  StreamerOptions,
  StreamProducer,
} from '../../lib/index.js';
import type { ConsumerOptions } from '../../lib/engine/options/options.js';
import { CommandBench, useServers } from '../support/command-bench.js';
import { EngineBench } from '../support/engine-bench.js';
import { fieldText } from '../support/field-text.js';
import { numbers, sendNumbers, take, takeTexts } from '../support/streams.js';
import { until } from '../support/until.js';
import { WAYS } from '../support/ways.js';

const DELIVERIES: readonly Delivery[] = ['at-least-once', 'at-most-once', 'exactly-once'];
const GROUP_MODES = ['resumable', 'load-balanced'] as const;
type GroupMode = (typeof GROUP_MODES)[number];
const combinations = (...commits: AutoCommit[]) =>
  GROUP_MODES.flatMap((mode) => commits.map((autoCommit) => [mode, autoCommit] as const));

const PAYLOADS: readonly Payload[] = [
  '',
  'ü\r\n$3\r\n€ 𝄞',
  Buffer.from(Array.from({ length: 256 }, (_, byte) => byte)),
  new Uint8Array([1, 0, 255]),
  randomBytes(65_536),
  '$'.repeat(1_024),
  '*'.repeat(1_025),
  randomBytes(5_000_000),
  'last',
];

const servers = useServers();

describe.each(WAYS)('the engine over $name:', (way) => {
  const bench = new CommandBench(way, servers);
  const engine = new EngineBench(bench);
  const canSend = (delivery: Delivery): boolean => delivery !== 'exactly-once' || way.may.scripts;
  const itRefuses = (name: string, delivery: Delivery, options: StreamerOptions): void =>
    it(name, async () => {
      const producer = await (await engine.connect(options)).createProducer(bench.key(), { delivery });
      await expect(producer.send('x')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
    });

  const sendInOrder = async (
    stream: string,
    producer: StreamProducer,
  ): Promise<{ payloads: string[]; ids: string[] }> => {
    const payloads = numbers(0, 199);
    const ids = (await Promise.all(payloads.map((payload) => producer.send(payload)))).map(({ id }) => id);
    expect((await bench.stored(stream)).map(([id, [, payload]]) => [id, payload])).toEqual(
      ids.map((id, index) => [id, payloads[index]]),
    );
    return { payloads, ids };
  };

  for (const delivery of DELIVERIES.filter((each) => !canSend(each))) {
    itRefuses(`a producer with delivery ${delivery} refuses to send without scripts`, delivery, {});
  }

  it.each(DELIVERIES.filter(canSend))(
    'a producer with delivery %s sends, in order, with receipts',
    async (delivery) => {
      const stream = bench.key();
      const streamer = await engine.connect();
      const producer = await streamer.createProducer(stream, { delivery, maxBatch: 40 });
      const { payloads } = await sendInOrder(stream, producer);
      // No caller asks for the ids of these.
      for (const payload of payloads) producer.enqueue(payload, { headers: { n: payload } });
      await producer.flush();
      const more = (await bench.stored(stream)).slice(payloads.length);
      expect(more.map(([, fields]) => fields)).toEqual(payloads.map((n) => ['msg', n, 'h:n', n]));
    },
  );

  for (const delivery of DELIVERIES) {
    if (!way.may.scripts) {
      const name = `a producer with delivery ${delivery} refuses to send ids in nanoseconds without scripts`;
      itRefuses(name, delivery, { timestampFormat: 'ns' });
      continue;
    }
    it(`a producer with delivery ${delivery} sends ids in nanoseconds`, async () => {
      const stream = bench.key();
      const streamer = await engine.connect({ timestampFormat: 'ns' });
      const producer = await streamer.createProducer(stream, { delivery, maxBatch: 40 });
      const { ids } = await sendInOrder(stream, producer);
      expect(new Set(ids.map((id) => id.split('-')[0]?.length))).toEqual(new Set([19]));
    });
  }

  it.each(DELIVERIES)('a refused message with delivery %s fails alone', async (delivery) => {
    if (!canSend(delivery) || !bench.hasPartialIds || (delivery === 'exactly-once' && bench.version < 7)) return;
    const stream = bench.key();
    const producer = await (await engine.connect()).createProducer(stream, { delivery });
    const sends = [undefined, new Date(1_000), undefined].map((timestamp) =>
      producer.send('x', timestamp ? { timestamp } : {}),
    );
    const outcomes = await Promise.allSettled(sends);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect((outcomes[1] as PromiseRejectedResult).reason).toMatchObject({ code: 'ERR_TIMESTAMP_REFUSED' });
    expect(await bench.stored(stream)).toHaveLength(2);
  });

  it('every byte of payloads and headers arrives, whatever its value and the length of the payload', async () => {
    const stream = bench.key();
    const streamer = await engine.connect();
    const producer = await streamer.createProducer(stream);
    const headers = { ключ: 'значение', empty: '' };
    const headersOf = (index: number) => (index % 2 === 0 ? {} : headers);
    const receipts = await Promise.all(
      PAYLOADS.map((payload, index) => producer.send(payload, { headers: headersOf(index) })),
    );
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    const messages = await take(consumer, PAYLOADS.length);
    expect(messages.map(({ id }) => id)).toEqual(receipts.map(({ id }) => id));
    expect(fieldText(messages.map(({ payload }) => payload))).toEqual(fieldText(PAYLOADS));
    expect(messages.map((message) => message.headers)).toEqual(PAYLOADS.map((_, index) => headersOf(index)));
  });

  it('a real-time consumer gets what was there and what arrives while it waits', async () => {
    const stream = bench.key();
    const streamer = await engine.connect();
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 49);
    const options = { mode: 'real-time', batchSize: 20 } as const;
    const earliest = await streamer.createConsumer(stream, { ...options, autoStreamReset: 'earliest' });
    const latest = await streamer.createConsumer(stream, options);
    expect(await takeTexts(earliest, 50)).toEqual(numbers(0, 49));
    const waiting = Promise.all([takeTexts(earliest, 50), takeTexts(latest, 50)]);
    await sendNumbers(producer, 50, 99);
    expect(await waiting).toEqual([numbers(50, 99), numbers(50, 99)]);
  });

  const takeFifty = async (mode: GroupMode, autoCommit: AutoCommit) => {
    const stream = bench.key();
    const streamer = await engine.connect();
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 24);
    const delay = autoCommit === 'delayed' ? { autoCommitDelay: 0 } : {};
    const interval = autoCommit === 'immediate' ? {} : { autoCommitInterval: 0 };
    const start = { group: 'g', autoStreamReset: 'earliest', batchSize: 10 } as const;
    const options = { mode, autoCommit, ...start, ...delay, ...interval } as ConsumerOptions;
    const consumer: BasicConsumer = await streamer.createConsumer(stream, options as never);
    const first = await take(consumer, 25);
    const waiting = take(consumer, 25);
    await sendNumbers(producer, 25, 49);
    const messages = [...first, ...(await waiting)];
    expect(messages.map((message) => message.text())).toEqual(numbers(0, 49));
    expect(messages.every(({ deliveryCount }) => deliveryCount === 1)).toBe(true);
    const pending = async (): Promise<number> =>
      Number(((await (await bench.admin(stream)).xpending(stream, 'g')) as [number])[0]);
    return { consumer, messages, pending };
  };

  it.each(combinations('immediate', 'delayed'))(
    'a %s consumer with autoCommit %s gets each message, and acknowledges it',
    async (mode, autoCommit) => {
      const { pending } = await takeFifty(mode, autoCommit);
      await until('nothing is pending', async () => (await pending()) === 0);
    },
  );

  it.each(combinations('rolling', 'disabled'))(
    'a %s consumer with autoCommit %s gets each message, and leaves its acknowledgement to the application',
    async (mode, autoCommit) => {
      const { consumer, messages, pending } = await takeFifty(mode, autoCommit);
      expect(await pending()).toBe(50);
      for (const message of messages) (consumer as AcknowledgingConsumer).ack(message);
      if (autoCommit === 'disabled') await (consumer as AcknowledgingConsumer).commit();
      await until('nothing is pending', async () => (await pending()) === 0);
    },
  );

  it('a load-balanced consumer claims the entries of one that is gone', async () => {
    const stream = bench.key();
    const admin = await bench.admin(stream);
    await admin.xgroup('CREATE', stream, 'g', '0', 'MKSTREAM');
    const ids: string[] = [];
    for (const payload of numbers(0, 9)) ids.push(String(await admin.xadd(stream, '*', 'msg', payload)));
    await admin.xreadgroup('GROUP', 'g', 'gone', 'STREAMS', stream, '>');
    await admin.xclaim(stream, 'g', 'gone', 0, ...ids, 'IDLE', 60_000, 'JUSTID');
    const streamer = await engine.connect();
    const claiming = { autoClaimInterval: 20, autoClaimIdle: 5_000, autoCommit: 'rolling' } as const;
    const consumer = await streamer.createConsumer(stream, { mode: 'load-balanced', group: 'g', ...claiming });
    const messages = await take(consumer, ids.length);
    expect(messages.map(({ id, deliveryCount }) => [id, deliveryCount])).toEqual(ids.map((id) => [id, 2]));
  });

  it('streams are found, and health tells the place of every read loop', async () => {
    const keyPrefix = `${bench.key()}:`;
    const streamer = await engine.connect({ keyPrefix });
    await (await streamer.createProducer('orders')).send('x');
    const consumer = await streamer.createConsumer('orders', {
      mode: 'resumable',
      group: 'g',
      autoStreamReset: 'earliest',
    });
    await consumer.next();
    const manager = await streamer.createManager();
    const found: string[] = [];
    for (let cursor: string | undefined; cursor !== '0';) {
      const page = await manager.scan(cursor);
      found.push(...page.streams);
      cursor = page.cursor;
    }
    expect(found).toEqual(['orders']);
    expect(await streamer.health()).toMatchObject({ isHealthy: true, status: 'connected', reconnects: 0 });
  });

  it('an inbox lets the work on a message be done once', async () => {
    const stream = bench.key();
    const streamer = await engine.connect();
    await (await streamer.createProducer(stream)).send('x');
    const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
    const message = await consumer.next();
    const inbox = streamer.createInbox('g');
    let runs = 0;
    const work = async (): Promise<void> => void (runs += 1);
    expect([await inbox.once(message, work), await inbox.once(message, work), runs]).toEqual([true, false, 1]);
  });
});
