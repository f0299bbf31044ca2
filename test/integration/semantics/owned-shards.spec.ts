import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
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
    const before = recorder.events.length;
    await until('some more are handled', () => recorder.handled.length > 2_000);
    expect(recorder.events.length).toBe(before);

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
});
