import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder } from '../../../lib/index.js';
import { withResolvers } from '../../../lib/shared/deferred.js';
import { uniqueName } from '../../support/redis.js';
import { OWNED, ShardRecorder } from '../../support/shard-recorder.js';
import type { Member } from '../../support/shard-recorder.js';
import { consumersOf, pendingOf, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();
const SHARDS = 4;
const LIMIT = 30_000;

async function sendNumbers(stream: string, first: number, last: number): Promise<void> {
  const producer = await (await streams.connect()).createProducer(stream, { sharder: new KeyHashSharder(SHARDS) });
  for (let number = first; number <= last; number += 1) await producer.send(String(number), { key: `k${number}` });
}

const shardsOf = (stream: string): string[] => Array.from({ length: SHARDS }, (_, shardId) => `${stream}:${shardId}`);

async function namesOn(stream: string): Promise<string[]> {
  const names = await Promise.all(shardsOf(stream).map((key) => consumersOf(streams.redis, key, OWNED.group)));
  return names.flat();
}

async function pendingCount(stream: string): Promise<number> {
  const rows = await Promise.all(shardsOf(stream).map((key) => pendingOf(streams.redis, key, OWNED.group)));
  return rows.flat().length;
}

const untilAsked = (stream: string, by: Member): Promise<void> =>
  until(
    'the owner is asked',
    async () => by.owned.size > 0 || (await streams.redis.keys(`nrs:*:wanted:${stream}:*`)).length > 0,
    LIMIT,
  );
const handledAll = (recorder: ShardRecorder, count: number): Promise<void> =>
  until(`${count} are handled`, () => new Set(recorder.handled.map(({ text }) => text)).size === count, LIMIT);
const ownsAll = (member: Member): Promise<void> => until('it owns all', () => member.owned.size === SHARDS, LIMIT);

/** The owner of all shards has messages in hand, which it keeps until `held` is resolved, when another member joins. */
async function joinWhileOneHandles() {
  const stream = uniqueName('stream');
  const recorder = new ShardRecorder();
  const held = withResolvers<void>();
  const first = await recorder.join(await streams.connect(), stream, { shards: SHARDS }, () => held.promise);
  await ownsAll(first);
  await sendNumbers(stream, 0, 39);
  await until('it handles one', () => recorder.handled.length === 1);
  const second = await recorder.join(await streams.connect(), stream, { shards: SHARDS });
  return { stream, recorder, held, first, second };
}

describe('a hand-over of owned shards', () => {
  it('while the owner is paused: the other one handles its half, and the owner the rest when it resumes', async () => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const first = await recorder.join(await streams.connect(), stream, { shards: SHARDS });
    await ownsAll(first);
    await first.consumer.pause();
    await sendNumbers(stream, 0, 39);
    const second = await recorder.join(await streams.connect(), stream, { shards: SHARDS });
    await until('they share', () => first.owned.size === 2 && second.owned.size === 2, LIMIT);
    const lengths = await Promise.all([...second.owned].map((shardId) => streams.redis.xlen(`${stream}:${shardId}`)));
    await handledAll(
      recorder,
      lengths.reduce((sum, length) => sum + length, 0),
    );
    expect(recorder.handled.every(({ member }) => member === second.name)).toBe(true);
    await first.consumer.resume();
    await handledAll(recorder, 40);
    expect([recorder.repeated, recorder.disorder, recorder.sharedShards]).toEqual([[], [], []]);
  });

  it('that is paused halfway: messages in handlers are acknowledged, and the other consumers handle the rest', async () => {
    const { stream, recorder, held, first, second } = await joinWhileOneHandles();
    await untilAsked(stream, second);
    await first.consumer.pause();
    held.resolve();
    await until('they share', () => first.owned.size === 2 && second.owned.size === 2, LIMIT);
    await first.consumer.resume();
    await handledAll(recorder, 40);
    await until('nothing is pending', async () => (await pendingCount(stream)) === 0, LIMIT);
    expect([recorder.repeated, recorder.disorder, recorder.sharedShards]).toEqual([[], [], []]);
  });

  it('while the group is paused: the shards move, nothing is handled before the group is resumed, and then everything once', async () => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    const first = await recorder.join(streamer, stream, { shards: SHARDS });
    await ownsAll(first);
    await manager.pauseGroup(stream, OWNED.group);
    await until('it is heeded', async () => {
      const read = (await streamer.health()).loops.flatMap((loop) => loop.streams);
      return read.length > 0 && read.every(({ pausedBy }) => pausedBy === 'group');
    });
    await sendNumbers(stream, 0, 39);
    const second = await recorder.join(await streams.connect(), stream, { shards: SHARDS });
    await until('they share', () => first.owned.size === 2 && second.owned.size === 2, LIMIT);
    await first.consumer.end();
    await ownsAll(second);
    expect(recorder.handled).toEqual([]);
    await manager.resumeGroup(stream, OWNED.group);
    await handledAll(recorder, 40);
    expect([recorder.repeated, recorder.disorder, recorder.sharedShards]).toEqual([[], [], []]);
  });

  it('to the shards of another layout while its consumers are paused: messages of the old shards come first', async () => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(SHARDS) });
    const send = async (first: number, last: number): Promise<void> => {
      for (let number = first; number <= last; number += 1) await producer.send(String(number), { key: 'k' });
    };
    const first = await recorder.join(streamer, stream, { shards: SHARDS });
    await ownsAll(first);
    await first.consumer.pause();
    await send(0, 4);
    await (await streamer.createManager()).setShards(stream, 2);
    await send(5, 9);
    const second = await recorder.join(streamer, stream, { shards: SHARDS });
    await second.consumer.pause();
    const before = recorder.handled.length;
    await until('they share', () => first.owned.size === 2 && second.owned.size === 2, LIMIT);
    expect(recorder.handled).toHaveLength(before);
    await Promise.all([first.consumer.resume(), second.consumer.resume()]);
    await handledAll(recorder, 10);
    expect(recorder.handled.map(({ text }) => text)).toEqual(Array.from({ length: 10 }, (_, number) => String(number)));
    const isMoved = (): boolean => [...first.owned, ...second.owned].every((shardId) => shardId >= SHARDS);
    await until('the new ones are shared', () => isMoved() && first.owned.size === 1 && second.owned.size === 1, LIMIT);
  });

  it('whose owner ends halfway: the other consumer has all shards, and each message is handled once', async () => {
    const { stream, recorder, held, first, second } = await joinWhileOneHandles();
    await until('a shard is handed over', () => second.owned.size > 0, LIMIT);
    const ended = first.consumer.end();
    held.resolve();
    await ended;
    await ownsAll(second);
    await handledAll(recorder, 40);
    expect([recorder.overtaken, recorder.sharedShards]).toEqual([[], []]);
    expect(recorder.repeated.length).toBeLessThanOrEqual(1);
    await until('nothing is pending', async () => (await pendingCount(stream)) === 0, LIMIT);
  });
});

describe('the name of a consumer of owned shards', () => {
  it.each<[string, (member: Member, stream: string) => Promise<unknown>]>([
    ['unassign()', ({ consumer }, stream) => consumer.unassign(stream)],
    ['end()', ({ consumer }) => consumer.end()],
  ])('is gone from every shard after %s', async (_, leave) => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const streamer = await streams.connect();
    const member = await recorder.join(streamer, stream, { shards: SHARDS });
    await member.consumer.assign(uniqueName('other'));
    await ownsAll(member);
    await sendNumbers(stream, 0, 39);
    await handledAll(recorder, 40);
    await leave(member, stream);
    expect(await namesOn(stream)).toEqual([]);
  });
});

describe('a consumer that shares in a group with owned shards', () => {
  it('loses nothing when it dies with messages, and the owner reads on', async () => {
    const stream = uniqueName('stream');
    const recorder = new ShardRecorder();
    const options = { shards: SHARDS, autoClaimIdle: 1_000, autoClaimInterval: 100 };
    const owner = await recorder.join(await streams.connect(), stream, options);
    await ownsAll(owner);
    const shared = await (
      await streams.connect()
    ).createConsumer(stream, {
      mode: 'load-balanced',
      group: OWNED.group,
      shards: SHARDS,
      autoCommit: 'rolling',
      autoCommitInterval: 20,
      autoClaimIdle: 1_000,
      autoClaimInterval: 100,
    });
    const got: string[] = [];
    const sharing = (async () => {
      for await (const message of shared) {
        got.push(message.text());
        shared.ack(message);
      }
    })();
    const all = (count: number) =>
      until('all', () => new Set([...got, ...recorder.handled.map(({ text }) => text)]).size === count, LIMIT);
    await sendNumbers(stream, 0, 199);
    await all(200);
    await shared.end();
    await sharing;
    // What one has that was killed.
    await owner.consumer.pause();
    await sendNumbers(stream, 200, 219);
    for (const key of shardsOf(stream)) {
      await streams.redis.xreadgroup('GROUP', OWNED.group, 'dead', 'COUNT', 3, 'STREAMS', key, '>');
    }
    await owner.consumer.resume();
    await all(220);
    await until('nothing is pending', async () => (await pendingCount(stream)) === 0, LIMIT);
    expect(owner.errors).toEqual([]);
  });
});
