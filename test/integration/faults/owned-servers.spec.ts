import { describe, expect, it } from '@jest/globals';

import { InvalidOptionError, KeyHashSharder, UnsupportedOperationError } from '../../../lib/index.js';
import type { RedisStreamer, StreamerOptions } from '../../../lib/index.js';
import { withResolvers } from '../../../lib/shared/deferred.js';
import { NEEDED, PROMPT_UNBLOCK, documentedFor, refusedCommands, setUser } from '../../support/acl.js';
import { FaultBench } from '../../support/fault-bench.js';
import type { RedisServer } from '../../support/redis-server.js';
import { OWNED, ShardRecorder } from '../../support/shard-recorder.js';
import type { Member } from '../../support/shard-recorder.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const STREAM = 'orders';
const SHARDS = 6;
const LIMIT = 60_000;

const isSpread = (members: readonly Member[]): boolean => {
  const counts = members.map(({ owned }) => owned.size);
  return counts.reduce((sum, count) => sum + count, 0) === SHARDS && Math.max(...counts) - Math.min(...counts) <= 1;
};

/** Members of a group under load. */
class Work {
  readonly recorder = new ShardRecorder();
  readonly members: Member[] = [];
  readonly #streamer: RedisStreamer;
  readonly #sent: string[] = [];
  readonly #stopping = new AbortController();
  #sending: Promise<void> | undefined;

  static async start(server: RedisServer, count: number, options: StreamerOptions = {}): Promise<Work> {
    const work = new Work(await bench.streamer(server.url, options));
    await Promise.all(Array.from({ length: count }, () => work.join()));
    await until('they share', () => isSpread(work.members), LIMIT);
    work.#sending = work.#send();
    bench.endLater(() => work.#stop());
    await work.handledMore();
    return work;
  }

  private constructor(streamer: RedisStreamer) {
    this.#streamer = streamer;
  }

  async join(): Promise<void> {
    this.members.push(await this.recorder.join(this.#streamer, STREAM, { shards: SHARDS }));
  }

  /** Until everything that was sent before is handled. */
  async handledMore(): Promise<void> {
    const before = this.#sent.length;
    const isMore = (): boolean => this.#sent.length > before + 50;
    await until('more is sent and handled', () => isMore() && this.#hasHandled(before), LIMIT);
  }

  /** Until everything that was sent is handled, and the members have ended. */
  async finish(): Promise<void> {
    await this.#stop();
    await until('everything is handled', () => this.#hasHandled(this.#sent.length), LIMIT);
    await until('they share', () => isSpread(this.members), LIMIT);
    await Promise.all(this.members.map(({ consumer }) => consumer.end()));
  }

  #hasHandled(count: number): boolean {
    const handled = new Set(this.recorder.handled.map(({ shardId, id }) => `${shardId}/${id}`));
    return this.#sent.slice(0, count).every((id) => handled.has(id));
  }

  async #stop(): Promise<void> {
    this.#stopping.abort();
    await this.#sending;
  }

  async #send(): Promise<void> {
    const producer = await this.#streamer.createProducer(STREAM, { sharder: new KeyHashSharder(SHARDS) });
    for (let number = 0; !this.#stopping.signal.aborted; number += 1) {
      try {
        const { shardId, id } = await producer.send(String(number), { key: `k${number % 50}` });
        this.#sent.push(`${shardId}/${id}`);
      } catch {
        // It may be stored all the same; then it is handled, and not waited for.
      }
      if (number % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

describe('owned shards', () => {
  it('a server that stands still for longer than the lease', async () => {
    const server = await bench.server();
    const work = await Work.start(server, 3);
    server.pause();
    await until('all leases are over', () => work.members.every(({ owned }) => owned.size === 0), LIMIT);
    server.resume();
    await work.handledMore();
    await work.finish();
    expect(work.recorder.overtaken).toEqual([]);
  });

  it('a server that is killed, comes back at once, and then after longer than the lease', async () => {
    const server = await bench.server();
    const work = await Work.start(server, 3);
    await server.restart();
    await work.handledMore();
    await server.kill();
    await until('all leases are over', () => work.members.every(({ owned }) => owned.size === 0), LIMIT);
    await server.restart();
    await work.handledMore();
    await work.finish();
    expect(work.recorder.overtaken).toEqual([]);
  });

  it('a deployment: all consumers are replaced one after the other, and no message is handled twice', async () => {
    const server = await bench.server();
    const work = await Work.start(server, 3);
    for (const old of work.members.slice()) {
      await work.join();
      await until('all share', () => isSpread(work.members), LIMIT);
      await old.consumer.end();
      work.members.splice(work.members.indexOf(old), 1);
      await until('the others share', () => isSpread(work.members), LIMIT);
    }
    await work.handledMore();
    await work.finish();
    expect(work.recorder.overtaken).toEqual([]);
    expect(work.recorder.repeated).toEqual([]);
    expect(work.recorder.disorder).toEqual([]);
    expect(work.recorder.sharedShards).toEqual([]);
  });

  it('keys of the group that are deleted, scripts that are flushed, and a group that is destroyed', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    const work = await Work.start(server, 3);
    await admin.del(...(await admin.keys('nrs:*:members:*')), ...(await admin.keys('nrs:*:shares:*')));
    await admin.script('FLUSH');
    await work.handledMore();
    const events = work.recorder.events.length;
    await until('all have reported again', async () => (await admin.zcard(membersKey())) === 3, LIMIT);
    expect(work.recorder.events.length).toBe(events);
    await admin.xgroup('DESTROY', `${STREAM}:1`, OWNED.group);
    await admin.del(...(await admin.keys('nrs:*:lease:*')), ...(await admin.keys('nrs:*:generation:*')));
    await work.handledMore();
    await work.finish();
    expect(work.recorder.overtaken).toEqual([]);
  });

  it('polling consumers, and a lease of half a second', async () => {
    const server = await bench.server();
    const streamer = await bench.streamer(server.url, { blockTimeout: false });
    const recorder = new ShardRecorder();
    const options = { shards: SHARDS, leaseTime: 500 };
    const members = [await recorder.join(streamer, STREAM, options), await recorder.join(streamer, STREAM, options)];
    await until('two share', () => isSpread(members), LIMIT);
    const producer = await streamer.createProducer(STREAM, { sharder: new KeyHashSharder(SHARDS) });
    for (let number = 0; number < 100; number += 1) await producer.send(String(number), { key: `k${number}` });
    await until('all are handled', () => new Set(recorder.handled.map(({ text }) => text)).size === 100, LIMIT);
    expect(recorder.overtaken).toEqual([]);
  });

  it('a consumer that never acknowledges hands over when the shutdown timeout is over, and its message is handled again', async () => {
    const server = await bench.server();
    const streamer = await bench.streamer(server.url, { shutdownTimeout: 500 });
    const recorder = new ShardRecorder();
    const holder = await streamer.createConsumer(STREAM, { ...OWNED, shards: 2 });
    const sharder = { shards: 2, shardOf: (_stream: string, key: string | undefined) => Number(key) };
    const producer = await streamer.createProducer(STREAM, { sharder });
    for (const key of ['0', '1']) await producer.send('held', { key });
    const held = [await holder.next(), await holder.next()];
    const member = await recorder.join(streamer, STREAM, { shards: 2 });
    await until('the other one has a shard and handles its message', () => recorder.handled.length === 1, LIMIT);
    const [again] = recorder.handled;
    const former = held.find(({ id, shardId }) => id === again?.id && shardId === again.shardId);
    expect(again?.token).toBeGreaterThan(former?.fencingToken as bigint);
    const errors: string[] = [];
    holder.on('error', ({ code }) => errors.push(code));
    for (const message of held) holder.ack(message);
    await until('the late acknowledgement is refused', () => errors.includes('ERR_SHARD_LEASE_LOST'), LIMIT);
    await holder.end();
    await until('the other one has both shards', () => member.owned.size === 2, LIMIT);
    expect(recorder.handled).toHaveLength(1);
  });

  it('a server without scripts, and a stream with braces that are no hash tag, are refused', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    await admin.acl('SETUSER', 'noscripts', 'on', '>secret', '~*', '+@all', '-eval', '-evalsha');
    const url = server.url.replace('redis://', 'redis://noscripts:secret@');
    const streamer = await bench.streamer(url);
    await expect(streamer.createConsumer(STREAM, OWNED)).rejects.toThrow(UnsupportedOperationError);
    await expect(streamer.createConsumer('a{b', OWNED)).rejects.toThrow(InvalidOptionError);
    expect(await admin.keys('nrs:*')).toEqual([]);
  });

  it('a stream with a hash tag, behind a key prefix', async () => {
    const server = await bench.server();
    const streamer = await bench.streamer(server.url, { keyPrefix: 'app:' });
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, '{shop}:orders', { shards: 2 });
    const producer = await streamer.createProducer('{shop}:orders', { sharder: new KeyHashSharder(2) });
    for (let number = 0; number < 10; number += 1) await producer.send(String(number), { key: `k${number}` });
    await until('all are handled', () => recorder.handled.length === 10, LIMIT);
    const owners = await (await streamer.createManager()).owners('{shop}:orders', OWNED.group);
    expect(owners.map(({ owner }) => owner)).toEqual([member.name, member.name]);
  });

  it('a group that was moved past entries is not read again and again', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer(STREAM);
    const consumer = await streamer.createConsumer(STREAM, OWNED);
    await consumer.pause();
    for (let number = 0; number < 3; number += 1) await producer.send('skipped');
    await admin.xgroup('SETID', STREAM, OWNED.group, '$');
    await consumer.resume();
    const waiting = consumer.next();
    await until('a look waits for new entries', async () => {
      const clients = String(await admin.client('LIST')).split('\n');
      return clients.some((client) => /cmd=xread /.test(client) && /flags=\w*b/.test(client));
    });
    const reads = async (): Promise<number> =>
      Number(/cmdstat_xread:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1]);
    const before = await reads();
    await producer.send('read');
    expect((await waiting).text()).toBe('read');
    expect((await reads()) - before).toBeLessThan(20);
  });

  it('shards that appear later are shared too', async () => {
    const server = await bench.server();
    const streamer = await bench.streamer(server.url);
    const sharder = { shards: 6, shardOf: (_stream: string, key: string | undefined) => Number(key) };
    const producer = await streamer.createProducer(STREAM, { sharder });
    for (const key of ['0', '1']) await producer.send('early', { key });
    const recorder = new ShardRecorder();
    const found = { shards: undefined, shardDiscoveryInterval: 100 };
    const members = [await recorder.join(streamer, STREAM, found)];
    members.push(await recorder.join(streamer, STREAM, found));
    await until('each has one of two', () => members.every(({ owned }) => owned.size === 1), LIMIT);
    for (const key of ['2', '3', '4', '5']) await producer.send('late', { key });
    await until('each has three of six', () => isSpread(members), LIMIT);
    await until('all are handled', () => recorder.handled.length === 6, LIMIT);
    expect([recorder.repeated, recorder.sharedShards]).toEqual([[], []]);
  });

  it('a consumer that is unassigned from a stream hands its shards over, once the messages that it has are acknowledged', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    const streamer = await bench.streamer(server.url);
    const producer = await streamer.createProducer(STREAM, { sharder: new KeyHashSharder(SHARDS) });
    const recorder = new ShardRecorder();
    const held = withResolvers<void>();
    let isHolding = false;
    const leaving = await recorder.join(streamer, STREAM, { shards: SHARDS }, async () => {
      isHolding = true;
      await held.promise;
    });
    await leaving.consumer.assign('another');
    for (let number = 0; number < 60; number += 1) await producer.send(String(number), { key: `k${number}` });
    await until('it handles a message', () => isHolding);
    const staying = await recorder.join(streamer, STREAM, { shards: SHARDS });
    const left = leaving.consumer.unassign(STREAM);
    held.resolve();
    await left;
    await until('the other one has all shards', () => staying.owned.size === SHARDS, LIMIT);
    await until('all are handled', () => new Set(recorder.handled.map(({ text }) => text)).size === 60, LIMIT);
    expect([recorder.repeated, recorder.sharedShards, recorder.disorder]).toEqual([[], [], []]);
    expect(await admin.zrange(membersKey(), '0', '-1')).toEqual([staying.name]);
  });

  it('consumers with the documented permissions share, hand over and acknowledge', async () => {
    const server = await bench.server();
    const admin = bench.admin(server.url);
    const [owning = ''] = documentedFor("`shardOwnership: 'owned'`");
    await setUser(admin, 'app', `${NEEDED} ${PROMPT_UNBLOCK} ${owning}`);
    const url = server.url.replace('redis://', 'redis://app:pw@');
    const streamer = await bench.streamer(url, { keyPrefix: 'app:' });
    const producer = await streamer.createProducer(STREAM, { sharder: new KeyHashSharder(SHARDS) });
    const recorder = new ShardRecorder();
    const members = [await recorder.join(streamer, STREAM, { shards: SHARDS })];
    for (let number = 0; number < 60; number += 1) await producer.send(String(number), { key: `k${number}` });
    members.push(await recorder.join(streamer, STREAM, { shards: SHARDS }));
    await until('two share', () => isSpread(members), LIMIT);
    await until('all are handled', () => recorder.handled.length === 60, LIMIT);
    for (const { consumer } of members) await consumer.end();
    expect(recorder.repeated).toEqual([]);
    expect(members.flatMap(({ errors }) => errors)).toEqual([]);
    // By which a producer with keys notes its number of shards, for setShards().
    expect(await refusedCommands(admin)).toEqual(['hset']);
  });
});

function membersKey(): string {
  return `nrs:{${STREAM}}:members:${STREAM}:${OWNED.group}`;
}
