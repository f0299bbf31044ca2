import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import type { ShardAssignment } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { OWNED, ShardRecorder } from '../../support/shard-recorder.js';
import type { Member } from '../../support/shard-recorder.js';
import { useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();
const SHARDS = 12;

const shares = (members: readonly Member[]): number[] =>
  members.map(({ owned }) => owned.size).sort((one, other) => one - other);
const isSpread = (members: readonly Member[]): boolean => {
  const counts = shares(members);
  return counts.reduce((sum, count) => sum + count, 0) === SHARDS && Math.max(...counts) - Math.min(...counts) <= 1;
};

/** Waits until the count has been the same for a lease time, in which each member has three rounds. */
async function untilSteady(count: () => number): Promise<void> {
  let [seen, since] = [count(), Date.now()];
  await until('nothing moves any more', () => {
    if (count() !== seen) [seen, since] = [count(), Date.now()];
    return Date.now() - since >= OWNED.leaseTime;
  });
}

describe('owned shards', () => {
  it('one consumer owns all shards, in order, with a fencing token', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(SHARDS) });
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, stream);
    await until('it owns all', () => member.owned.size === SHARDS);
    for (let number = 0; number < 200; number += 1) await producer.send(String(number), { key: `k${number % 20}` });
    await until('all are handled', () => recorder.handled.length === 200);
    expect(recorder.disorder).toEqual([]);
    expect(recorder.repeated).toEqual([]);
    expect(recorder.handled.every(({ token }) => token > 0n)).toBe(true);
    await member.consumer.end();
    expect(member.owned.size).toBe(0);
    expect(await streams.redis.keys(`*lease:${stream}:*`)).toEqual([]);
  });

  it('a listener of assigned is called once for each shard that is owned, and one that was added with once() a single time', async () => {
    const streamer = await streams.connect();
    const stream = uniqueName('stream');
    const consumer = await streamer.createConsumer(stream, { ...OWNED, shards: 4 });
    await until('it owns all', () => consumer.streamShards.length === 4);
    const calls: string[] = [];
    const note =
      (listener: string) =>
      ({ shardId }: ShardAssignment) =>
        void calls.push(`${listener} ${shardId}`);
    const removed = note('removed');
    consumer.on('assigned', note('on')).once('assigned', note('once')).on('assigned', removed).off('assigned', removed);
    const first = await new Promise<ShardAssignment>((resolve) => consumer.once('assigned', resolve));
    expect(first.streamKey).toBe(stream);
    const another = uniqueName('stream');
    await consumer.assign(another);
    const callsOf = (listener: string): string[] => calls.filter((call) => call.startsWith(`${listener} `)).sort();
    await until('it owns those too', () => callsOf('on').length >= 8);
    await consumer.unassign(another);
    expect(callsOf('once')).toHaveLength(1);
    expect(callsOf('on')).toEqual(['on 0', 'on 0', 'on 1', 'on 1', 'on 2', 'on 2', 'on 3', 'on 3']);
    expect(callsOf('removed')).toEqual([]);
    await consumer.end();
  });

  it('owners() lists the shards, the stream itself only if it exists or has an owner, and nothing of a missing stream', async () => {
    const [stream, plain] = [uniqueName('stream'), uniqueName('plain')];
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    const keys = async (key: string): Promise<string[]> => (await manager.owners(key, 'g')).map((each) => each.key);
    expect(await keys(stream)).toEqual([]);
    for (const shard of [0, 1]) await streams.redis.xadd(`${stream}:${shard}`, '*', 'msg', 'x');
    expect(await keys(stream)).toEqual([`${stream}:0`, `${stream}:1`]);
    await streams.redis.xadd(stream, '*', 'msg', 'x');
    expect(await keys(stream)).toEqual([stream, `${stream}:0`, `${stream}:1`]);
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, plain, { shards: undefined });
    await until('it owns the stream', () => member.owned.size === 1);
    await streams.redis.del(plain);
    expect(await manager.owners(plain, 'g')).toMatchObject([
      { streamKey: plain, shardId: 0, key: plain, owner: member.consumer.consumerId },
    ]);
    await member.consumer.end();
  });

  it('from 1 to 8 to 3 consumers under load: spread evenly, no message twice, none out of order, none lost', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(SHARDS) });
    const recorder = new ShardRecorder();
    let sent = 0;
    let isSending = true;
    const sending = (async () => {
      for (; isSending; sent += 1) await producer.send(String(sent), { key: `k${sent % 100}` });
    })();

    const members = [await recorder.join(streamer, stream)];
    await until('it owns all', () => members[0]?.owned.size === SHARDS);
    for (let index = 1; index < 8; index += 1) members.push(await recorder.join(streamer, stream));
    await until('eight share', () => isSpread(members), 30_000);
    expect(shares(members)).toEqual([1, 1, 1, 1, 2, 2, 2, 2]);
    // A request that was under way when the last one got its share may move one more.
    await untilSteady(() => recorder.events.length);
    const [moves, handled] = [recorder.events.length, recorder.handled.length];
    await until('some more are handled', () => recorder.handled.length > handled + 1_000, 60_000);
    expect(recorder.events.length).toBe(moves);
    expect(shares(members)).toEqual([1, 1, 1, 1, 2, 2, 2, 2]);

    const gone = members.splice(0, 5);
    await Promise.all(gone.map(({ consumer }) => consumer.end()));
    await until('three share', () => isSpread(members), 30_000);
    isSending = false;
    await sending;
    await until('all are handled', () => recorder.handled.length >= sent);

    expect(recorder.handled.length).toBe(sent);
    expect(recorder.repeated).toEqual([]);
    expect(recorder.disorder).toEqual([]);
    expect(recorder.sharedShards).toEqual([]);
    await Promise.all(members.map(({ consumer }) => consumer.end()));
  });

  it('a consumer whose shards are fewer than those of the producers reports it once, at its start and later', async () => {
    const [late, early, equal] = [uniqueName('late'), uniqueName('early'), uniqueName('equal')];
    const logged: string[] = [];
    const logger = { error: (line: string) => logged.push(line), warn: () => undefined, log: () => undefined };
    const streamer = await streams.connect({ logger });
    const sendTo = async (stream: string, shards: number): Promise<void> => {
      const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(shards) });
      await producer.send('1', { key: 'k' });
    };
    await sendTo(early, 3);
    await sendTo(equal, 2);
    const consumer = await streamer.createConsumer([late, early, equal], { ...OWNED, shards: 2 });
    expect(logged).toEqual([
      expect.stringContaining(`The shards 0 to 2 of '${early}' are not all read by this consumer`),
    ]);
    const errors: string[] = [];
    consumer.on('error', ({ code, message }) => errors.push(`${code} ${message}`));
    await sendTo(late, 3);
    await until('it is noticed', () => errors.length > 0);
    expect(errors[0]).toContain(`ERR_UNREAD_SHARDS The shards 0 to 2 of '${late}' are not all read by this consumer`);
    await sendTo(equal, 4);
    await until('that is noticed too', () => errors.length > 1);
    expect(errors.map((error) => /of '([^']*)'/.exec(error)?.[1])).toEqual([late, equal]);
    expect(logged).toHaveLength(1);
    await consumer.end();
  });

  it('a consumer that shares reports at its start that it reads none of the shards of setShards()', async () => {
    const stream = uniqueName('stream');
    const logged: string[] = [];
    const logger = { error: (line: string) => logged.push(line), warn: () => undefined, log: () => undefined };
    const streamer = await streams.connect({ logger });
    const options = { ...OWNED, shardOwnership: 'shared', leaseTime: undefined } as const;
    await streamer.createConsumer(stream, { ...options, shards: 2 });
    const manager = await streamer.createManager();
    await manager.setShards(stream, 2);
    await manager.setShards(stream, 3);
    await streamer.createConsumer(stream, { ...options, shards: [1, 2] });
    await streamer.createConsumer(stream, options);
    await streamer.createConsumer(stream, { ...options, shards: 2 });
    await until('it is reported', () => logged.length > 0);
    expect(logged).toEqual([
      expect.stringContaining(`The shards 2 to 4 of '${stream}' are not all read by this consumer`),
    ]);
  });
});
