import { beforeEach, describe, expect, it, jest } from '@jest/globals';

import { DEAD_LETTER_HEADERS } from '../../lib/index.js';
import type { RedisStreamsContext, ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { onEvent } from '../support/controllers.js';
import { FaultBench } from '../support/fault-bench.js';
import { Fleet } from '../support/fleet.js';
import { startInstance } from '../support/instances.js';
import { Ledger } from '../support/ledger.js';
import { useLoad } from '../support/load.js';
import { useNestProcesses } from '../support/nest-process.js';
import { uniqueName } from '../support/redis.js';
import { pendingOf } from '../support/streams.js';
import { useTally } from '../support/tally.js';
import type { TestRedis } from '../support/test-redis.js';
import { until } from '../support/until.js';

const GROUP = 'g';

jest.setTimeout(45_000);
const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
const startService = useNestProcesses();
let redis: TestRedis;
let admin: RedisClient;
let pattern: string;
let producer: StreamProducer;
let ledger: Ledger;
/** The delivery counts of the handlings of each message, in order. */
let handlings: Map<string, number[]>;

beforeEach(async () => {
  redis = await bench.lastingRedis();
  admin = redis.client();
  pattern = uniqueName('poison');
  producer = await (await bench.streamer(redis.connection)).createProducer(pattern);
  ledger = new Ledger();
  handlings = new Map();
});

/** True for one message in a hundred. */
const isPoison = (payload: string): boolean => Number(payload) % 100 === 50;

/**
 * Starts an instance whose handler fails for poison messages. A message counts as settled when its handler succeeded or
 * it became a dead letter.
 */
async function serve(options: Partial<ServerRedisStreamsOptions>, url = redis.connection): Promise<void> {
  const settled = (id: string, payload: string): void => ledger.handledMessage({ id, text: () => payload });
  const handle = async (n: number, context: RedisStreamsContext): Promise<void> => {
    const payload = String(n);
    handlings.set(payload, [...(handlings.get(payload) ?? []), context.getDeliveryCount()]);
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (isPoison(payload)) throw new RangeError(`cannot do ${payload}`);
    settled(context.getMessageId(), payload);
  };
  await startInstance(bench, onEvent(pattern, handle), {
    connection: url,
    group: GROUP,
    autoCommitInterval: 50,
    onDeadLetter: ({ message }) => settled(message.id, message.text()),
    ...options,
  });
}

const send = (n: number): Promise<void> => ledger.sent(String(n), producer.send(String(n)));

/** Payload and headers of all dead letters. */
async function deadLetters(): Promise<
  Array<{ payload: string; header(name: keyof typeof DEAD_LETTER_HEADERS): string }>
> {
  const entries = await admin.xrange(`${pattern}.dead`, '-', '+');
  return entries.map(([, fields]) => ({
    payload: fields[fields.indexOf('msg') + 1] as string,
    header: (name) => fields[fields.indexOf(`h:${DEAD_LETTER_HEADERS[name]}`) + 1] as string,
  }));
}

const sorted = (payloads: Iterable<string>): string[] => [...payloads].sort((a, b) => Number(a) - Number(b));
const pendingIds = async (): Promise<string[]> => (await pendingOf(admin, pattern, GROUP)).map(({ id }) => id);

/** Compares the confirmed messages with the settled ones, and checks how often the other messages were handled. */
async function settle(faults: number): Promise<{ poison: string[]; duplicates: ReadonlyMap<string, number> }> {
  const { lost } = await ledger.settled();
  if (lost.length === 0) await until('nothing is pending', async () => (await pendingIds()).length === 0);
  const { duplicates } = ledger.account();
  tally({ faults, sends: ledger.confirmed, handled: ledger.handled, duplicates: ledger.repeated, lost: lost.length });
  expect(lost).toEqual([]);
  expect(ledger.failures.size).toBe(0);
  const others = [...handlings].filter(([payload]) => !isPoison(payload));
  expect(others.filter(([, counts]) => counts.length !== 1 || counts[0] !== 1)).toEqual([]);
  return { poison: sorted([...handlings.keys()].filter(isPoison)), duplicates };
}

describe('a message that always fails', () => {
  it('is handled exactly as often as attempts allows, then becomes one dead letter, and other messages are not affected', async () => {
    const retry = { attempts: 4, delay: 20, factor: 2 };
    for (let instance = 0; instance < 2; instance += 1) await serve({ retry });
    const load = keepSending(send, 500);
    await load.moreSent(1_500);
    await load.stop();

    const { poison, duplicates } = await settle(0);
    const dead = await deadLetters();
    expect(duplicates).toEqual(new Map());
    expect(poison).toHaveLength(Math.round(load.sent / 100));
    expect(sorted(dead.map(({ payload }) => payload))).toEqual(poison);
    for (const payload of poison) expect(handlings.get(payload)).toEqual([1, 2, 3, 4]);
    for (const { payload, header } of dead) {
      expect(header('reason')).toBe('failed 4 times');
      expect(header('deliveryCount')).toBe('4');
      expect(header('errorMessage')).toBe(`cannot do ${payload}`);
    }
  });

  it('is handled exactly as often as attempts allows when connections break', async () => {
    const proxy = await redis.proxies(pattern);
    for (let instance = 0; instance < 2; instance += 1)
      await serve({ retry: { attempts: 4, delay: 20 } }, proxy.connection);
    const load = keepSending(send, 400);
    for (let round = 0; round < 12; round += 1) {
      await load.moreSent(100);
      proxy.cut(round % 2 === 0 ? 'rst' : 'fin', ([undefined, 'control', 'reader', 'writer'] as const)[round % 4]);
    }
    await load.stop();

    const { poison, duplicates } = await settle(12);
    for (const payload of poison) expect([payload, handlings.get(payload)]).toEqual([payload, [1, 2, 3, 4]]);
    // A write whose reply was lost is repeated: a second dead letter is possible, a missing one is not.
    const dead = await deadLetters();
    expect(sorted(new Set(dead.map(({ payload }) => payload)))).toEqual(poison);
    expect(dead.length).toBeLessThanOrEqual(poison.length + 12);
    expect(duplicates).toEqual(new Map());
  });
});

it('a payload that cannot be parsed becomes a dead letter at once, and no handler receives it', async () => {
  for (let instance = 0; instance < 2; instance += 1) await serve({});
  const broken = (n: number): Promise<void> => ledger.sent(`{"n":${n}`, producer.send(`{"n":${n}`));
  const load = keepSending((n) => (n % 100 === 50 ? broken(n) : send(n)), 500);
  await load.moreSent(1_500);
  await load.stop();

  const { duplicates } = await settle(0);
  const dead = await deadLetters();
  expect(duplicates).toEqual(new Map());
  expect(dead).toHaveLength(Math.round(load.sent / 100));
  expect([...handlings.keys()].filter((payload) => payload.startsWith('{'))).toEqual([]);
  for (const { header } of dead) {
    expect(header('reason')).toMatch(/^cannot be cured by trying again/);
    expect(header('deliveryCount')).toBe('1');
  }
});

it('a dead letter that cannot be stored is not lost: its message stays pending, and is dead-lettered later without being handled again, with its own reason, error and count', async () => {
  await admin.set(`${pattern}.dead`, 'something else');
  for (let instance = 0; instance < 2; instance += 1) await serve({ retry: { attempts: 2, delay: 20 } });
  const load = keepSending(send, 500);
  await load.moreSent(1_000);
  await load.stop();
  const poison = (): Array<[string, number[]]> => [...handlings].filter(([payload]) => isPoison(payload));
  await until('all poison messages were handled', () => poison().length === Math.round(load.sent / 100));
  await until('all poison messages were handled twice', () => poison().every(([, counts]) => counts.length === 2));
  await until('only the poison messages are pending', async () => (await pendingIds()).length === poison().length);
  expect(ledger.account().lost.filter((payload) => !isPoison(payload))).toEqual([]);
  await admin.del(`${pattern}.dead`);

  const { duplicates } = await settle(1);
  expect(duplicates).toEqual(new Map());
  expect(poison().filter(([, counts]) => counts.join() !== '1,2')).toEqual([]);
  const dead = await deadLetters();
  expect(sorted(dead.map(({ payload }) => payload))).toEqual(sorted(poison().map(([payload]) => payload)));
  const said = dead.map(({ header }) => [header('reason'), header('deliveryCount'), header('errorMessage')]);
  expect(said).toEqual(dead.map(({ payload }) => ['failed 2 times', '2', `cannot do ${payload}`]));
});

describe('with processes that die', () => {
  const CLAIM = { autoClaimIdle: 1_000, autoClaimInterval: 50, autoCommitInterval: 100, concurrency: 8 } as const;

  it('a message that ends every process that handles it becomes a dead letter after as many deaths as attempts', async () => {
    const attempts = 3;
    const options = { ...CLAIM, retry: { attempts } };
    const fleet = new Fleet(bench, startService, { redis, pattern, options });
    const services = ['a', 'b'].map((name) => fleet.supervise(name));
    const load = keepSending((n) => fleet.send(producer, n === 200 ? { n, exits: true } : { n, takes: 10 }), 300);
    await until(
      'the poison message is a dead letter',
      async () => {
        return (await deadLetters()).some(({ payload }) => payload.includes('"n":200,'));
      },
      30_000,
    );
    await load.moreSent(300);
    await load.stop();
    await fleet.untilSettled();
    const deaths = (await Promise.all(services.map((service) => service.stop()))).reduce((a, b) => a + b);

    const { lost } = fleet.ledger.account();
    const dead = await deadLetters();
    const deadLettered = new Set(dead.map(({ payload }) => String((JSON.parse(payload) as { n: number }).n)));
    const gone = lost.filter((payload) => !deadLettered.has(payload));
    const { confirmed: sends, handled } = fleet.ledger;
    tally({ faults: deaths, sends, handled, duplicates: fleet.ledger.repeated, lost: gone.length });
    expect(gone).toEqual([]);
    expect(deaths).toBe(attempts);
    expect(fleet.starts.flatMap(({ n, deliveryCount }) => (n === 200 ? deliveryCount : []))).toEqual([1, 2, 3]);
    expect(deadLettered.size).toBe(dead.length);
    expect(fleet.unexplained()).toEqual([]);
    // Every dead letter was owned by that many dead processes, whether it is the poison message or not.
    expect(dead.filter(({ header }) => fleet.crashes.get(header('id')) !== attempts)).toEqual([]);
  });

  it('a crash between a dead letter and its acknowledgement leaves a second dead letter, never none', async () => {
    const fleet = new Fleet(bench, startService, { redis, pattern, options: CLAIM });
    const proxy = await redis.proxies(pattern);
    const load = keepSending((n) => fleet.send(producer, { n, takes: 5, refuses: isPoison(String(n)) }), 400);
    // Only acknowledgements may use the control connection, which will be stalled.
    const victim = await fleet.start('victim', { connection: proxy.connection, autoClaimInterval: false });
    await until('dead letters are written', async () => (await deadLetters()).length >= 2);
    proxy.stall('control');
    const before = await admin.xlen(`${pattern}.dead`);
    await until('another dead letter is written', async () => (await admin.xlen(`${pattern}.dead`)) > before);
    const inFlight = new Set(await fleet.kill(victim));
    const between = (await deadLetters()).map(({ header }) => header('id')).filter((id) => inFlight.has(id));
    await fleet.start('successor');
    await load.moreSent(400);
    await load.stop();
    await fleet.untilSettled();

    const { lost } = fleet.ledger.account();
    const { confirmed: sends, handled } = fleet.ledger;
    const dead = await deadLetters();
    const times = new Map<string, number>();
    for (const { header } of dead) times.set(header('id'), (times.get(header('id')) ?? 0) + 1);
    expect(between.length).toBeGreaterThan(0);
    expect([...times].filter(([id, count]) => count !== (between.includes(id) ? 2 : 1))).toEqual([]);
    const gone = lost.filter((payload) => !isPoison(payload));
    tally({
      faults: 1,
      sends,
      handled: handled + times.size,
      duplicates: fleet.ledger.repeated + between.length,
      lost: gone.length,
    });
    expect(gone).toEqual([]);
    expect(times.size).toBe(lost.length);
    expect(fleet.unexplained()).toEqual([]);
    expect(fleet.miscounted).toEqual([]);
  });
});
