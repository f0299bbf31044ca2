import { describe, expect, it } from '@jest/globals';
import type { StreamConsumer, StreamMessage } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import {
  consumersOf,
  numbers,
  pendingOf,
  sendNumbers,
  take,
  takeTexts,
  texts,
  useStreams,
} from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

const failover = {
  mode: 'load-balanced',
  autoStreamReset: 'earliest',
  autoCommit: 'disabled',
  mkStream: true,
  autoClaimIdle: 1_000,
  autoClaimInterval: 1_000,
} as const;
const quick = { ...failover, autoClaimIdle: 300, autoClaimInterval: 50 } as const;

describe('load-balanced', () => {
  it('scenario 7: two consumers with default ids share one group, and together receive each message once', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const options = {
      mode: 'load-balanced',
      autoStreamReset: 'earliest',
      mkStream: true,
      batchSize: 1,
      prefetch: 1,
    } as const;
    const first = await streamer.createConsumer(stream, options);
    const second = await streamer.createConsumer(stream, options);
    await sendNumbers(await streamer.createProducer(stream), 0, 9);

    // Before next() is called each consumer buffers at most one message, so neither can take all of them.
    const group = first.groupId as string;
    const hasOneEach = async (): Promise<boolean> =>
      new Set((await pendingOf(streams.redis, stream, group)).map(({ consumer }) => consumer)).size === 2;
    await until('each consumer holds a message', hasOneEach);
    const seen = await takeTogether([first, second], 10);

    expect(first.groupId).toBe(second.groupId);
    expect(first.groupId).toMatch(/:s$/);
    expect(first.consumerId).not.toBe(second.consumerId);
    expect(seen.flat().sort()).toEqual(numbers(0, 9));
    expect(seen.map((part) => part.length)).not.toContain(0);
  });

  it('scenario 8: the entries of a consumer that ended without acks go to another consumer, and it can rejoin', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const alpha = await streamer.createConsumer(stream, { ...failover, group, consumer: 'alpha' });
    await sendNumbers(producer, 0, 4);
    expect(await takeTexts(alpha, 5)).toEqual(numbers(0, 4));
    // If alpha buffers any of 5 to 9, it releases them when it ends; beta receives them either way.
    const beta = await streamer.createConsumer(stream, { ...failover, group, consumer: 'beta' });
    await alpha.end();
    await sendNumbers(producer, 5, 9);
    const fresh = await take(beta, 5);
    expect(texts(fresh)).toEqual(numbers(5, 9));
    for (const message of fresh) beta.ack(message);
    await beta.commit();

    const claimed = await take(beta, 5);
    expect(texts(claimed)).toEqual(numbers(0, 4));
    expect(claimed.map(({ deliveryCount }) => deliveryCount)).toEqual([2, 2, 2, 2, 2]);
    for (const message of claimed) beta.ack(message);
    await beta.end();

    const again = await streamer.createConsumer(stream, { ...failover, group, consumer: 'alpha' });
    await sendNumbers(producer, 10, 14);
    expect(await takeTexts(again, 5)).toEqual(numbers(10, 14));
  });

  it('scenario 8: a consumer that ends while another is reading loses nothing of what both had', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const alpha = await streamer.createConsumer(stream, { ...quick, group, consumer: 'alpha' });
    const beta = await streamer.createConsumer(stream, { ...quick, group, consumer: 'beta' });
    await sendNumbers(await streamer.createProducer(stream), 0, 49);

    await take(alpha, 1);
    await alpha.end();

    // Released entries may be claimed at once, but the entry that alpha had handed out only after its idle time.
    expect((await takeTexts(beta, 50)).sort()).toEqual(numbers(0, 49).sort());
  });

  it('scenario 9: claimed entries are owned by the claimer afterwards', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    await abandon(stream, group, 'dead', 25);

    const beta = await streamer.createConsumer(stream, { ...quick, group, consumer: 'beta' });
    // A scan during which the claim idle ends claims the entries of its last page before those of its first.
    expect((await takeTexts(beta, 25)).sort()).toEqual(numbers(0, 24).sort());

    const owners = (await pendingOf(streams.redis, stream, group)).map(({ consumer }) => consumer);
    expect(owners).toEqual(Array<string>(25).fill('beta'));
  });

  it('scenario 9: a claim scan continues to the end of the list, past pages with nothing to claim', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    // 60 fresh entries come before those of the dead consumer; a page of XAUTOCLAIM examines ten times COUNT entries.
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 59);
    const alive = await streamer.createConsumer(stream, {
      ...quick,
      group,
      consumer: 'alive',
      batchSize: 60,
      autoClaimInterval: false,
    });
    await take(alive, 60);
    await abandon(stream, group, 'dead', 5, 60);

    const options = {
      ...quick,
      group,
      consumer: 'beta',
      batchSize: 1,
      prefetch: 1,
      autoClaimInterval: 60_000,
    } as const;
    await until('the dead entries are idle for long enough', async () => {
      const dead = (await pendingOf(streams.redis, stream, group)).filter(({ consumer }) => consumer === 'dead');
      return dead.every(({ idle }) => idle > quick.autoClaimIdle);
    });
    // There is only one scan, at the start: if it ends early, the entries do not arrive.
    const beta = await streamer.createConsumer(stream, options);

    expect(await takeTexts(beta, 5)).toEqual(numbers(60, 64));
  });

  it('scenario 9: entries that were deleted while pending are acknowledged, and the others are delivered', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const ids = await abandon(stream, group, 'dead', 4);
    await streams.redis.xdel(stream, ids[0] as string, ids[2] as string);

    const beta = await streamer.createConsumer(stream, { ...quick, group, consumer: 'beta' });
    expect(await takeTexts(beta, 2)).toEqual(['1', '3']);

    await until(
      'no deleted entry is pending',
      async () => (await pendingOf(streams.redis, stream, group)).length === 2,
    );
  });

  it('scenario 10: a live consumer keeps the messages in its handlers, however long they take', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream);
    const alpha = await streamer.createConsumer(stream, {
      ...quick,
      group,
      consumer: 'alpha',
      autoClaimInterval: false,
    });
    await producer.send('long work');
    await producer.send('buffered');
    const [work] = (await take(alpha, 1)) as [StreamMessage];
    const beta = await streamer.createConsumer(stream, { ...quick, group, consumer: 'beta' });

    // Each entry of a dead consumer that beta claims proves that a whole claim idle has passed and a scan followed.
    for (let round = 0; round < 4; round += 1) {
      await abandon(stream, group, 'dead', 1, round);
      const [claimed] = (await take(beta, 1)) as [StreamMessage];
      expect(claimed.text()).toBe(String(round));
      beta.ack(claimed);
    }

    alpha.ack(work);
    await alpha.commit();
    expect(await takeTexts(alpha, 1)).toEqual(['buffered']);
    expect(work.deliveryCount).toBe(1);
  });

  it('immediate delivers a released entry to another consumer once, and leaves nothing pending', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const options = {
      mode: 'load-balanced',
      group,
      autoStreamReset: 'earliest',
      autoCommit: 'immediate',
      autoClaimIdle: 100,
      autoClaimInterval: 50,
    } as const;
    const producer = await streamer.createProducer(stream);
    await sendNumbers(producer, 0, 4);
    const alpha = await streamer.createConsumer(stream, { ...options, consumer: 'alpha' });
    await take(alpha, 1);
    await alpha.end();

    const beta = await streamer.createConsumer(stream, { ...options, consumer: 'beta' });
    const messages = await take(beta, 4);
    expect(texts(messages)).toEqual(numbers(1, 4));
    expect(messages.map(({ deliveryCount }) => deliveryCount)).toEqual([1, 1, 1, 1]);
    await until('nothing is pending', async () => (await pendingOf(streams.redis, stream, group)).length === 0);
    await producer.send('new');
    expect(await takeTexts(beta, 1)).toEqual(['new']);
  });

  it('a consumer that ends with nothing pending removes its name', async () => {
    const [stream, group] = [uniqueName('stream'), uniqueName('group')];
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, { ...quick, group, autoCommit: 'rolling' });
    await sendNumbers(await streamer.createProducer(stream), 0, 4);
    for (const message of await take(consumer, 5)) consumer.ack(message);

    await consumer.end();

    expect(await consumersOf(streams.redis, stream, group)).toEqual([]);
  });
});

/** Appends messages and reads them under the name of a consumer that does not exist. */
async function abandon(stream: string, group: string, consumer: string, count: number, first = 0): Promise<string[]> {
  const { redis } = streams;
  const isNew = (await redis.exists(stream)) === 0;
  if (isNew) await redis.xgroup('CREATE', stream, group, '0', 'MKSTREAM');
  const script = `local ids = {}
for i = 1, ARGV[3] do ids[i] = redis.call('XADD', KEYS[1], '*', 'msg', tostring(ARGV[4] + i - 1)) end
redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], 'STREAMS', KEYS[1], '>')
return ids`;
  // In one transaction, because a live consumer of the group could read the messages first.
  return (await redis.eval(script, 1, stream, group, consumer, count, first)) as string[];
}

/** Collects the next messages that each of the consumers receives. */
async function takeTogether(consumers: readonly StreamConsumer[], count: number): Promise<string[][]> {
  const done = new AbortController();
  const limit = AbortSignal.timeout(10_000);
  const seen = consumers.map((): string[] => []);
  const takeAll = async (consumer: StreamConsumer, own: string[]): Promise<void> => {
    while (seen.flat().length < count) {
      own.push((await consumer.next({ signal: AbortSignal.any([done.signal, limit]) })).text());
    }
    done.abort();
  };
  await Promise.allSettled(consumers.map((consumer, index) => takeAll(consumer, seen[index] as string[])));
  return seen;
}
