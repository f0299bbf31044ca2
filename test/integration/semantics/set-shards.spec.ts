import { describe, expect, it } from '@jest/globals';

import { KeyHashSharder, RoundRobinSharder } from '../../../lib/index.js';
import type { ProducerOptions, StreamProducer } from '../../../lib/index.js';
import { nanosecondTests } from '../../support/nanoseconds.js';
import { uniqueName } from '../../support/redis.js';
import { ShardRecorder } from '../../support/shard-recorder.js';
import { useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();

/** Sends the numbers 0, 1, … of each of its keys, in order, until it is stopped. */
class KeyedLoad {
  sent = 0;
  readonly #failures: unknown[] = [];
  #isSending = true;
  readonly #done: Promise<void>;
  readonly #recorder: ShardRecorder;

  constructor(producer: StreamProducer, recorder: ShardRecorder, name: string, keys: number) {
    this.#recorder = recorder;
    this.#done = this.#run(producer, name, keys);
  }

  async #run(producer: StreamProducer, name: string, keys: number): Promise<void> {
    for (let round = 0; this.#isSending; round += 1) {
      // The consumers must be able to follow, on a slow machine too.
      await until(
        'the consumers follow',
        () => !this.#isSending || this.sent < this.#recorder.handled.length + 400,
        60_000,
      );
      const sends = Array.from({ length: keys }, (_, index) => {
        const key = `${name}${index}`;
        return producer.send(`${key}:${round}`, { key });
      });
      // Several rounds are in flight, so that a change meets messages in every state.
      const settled = Promise.all(sends).then(
        () => (this.sent += keys),
        (error: unknown) => this.#failures.push(error),
      );
      if (round % 5 === 0) await settled;
      else await new Promise(setImmediate);
    }
    await producer.flush();
  }

  async stop(): Promise<void> {
    this.#isSending = false;
    await this.#done;
    if (this.#failures.length > 0) throw new AggregateError(this.#failures, 'sends failed');
  }
}

/** Handlings of a key that are not the number behind the last one. */
function outOfOrder(recorder: ShardRecorder): string[] {
  const last = new Map<string, number>();
  return recorder.handled.flatMap(({ text, shardId, id }) => {
    const [key = '', number] = text.split(':');
    const expected = (last.get(key) ?? -1) + 1;
    last.set(key, Number(number));
    return Number(number) === expected ? [] : [`${text} in place of ${expected}, shard ${shardId}, ${id}`];
  });
}

const itSends = nanosecondTests({
  info: () => streams.redis.info('server'),
  producer: async () => (await streams.connect({ timestampFormat: 'ns' })).createProducer(uniqueName('stream')),
});

const ascending = (numbers: Iterable<number>): number[] => [...numbers].sort((one, other) => one - other);

describe('setShards()', () => {
  it.each<[string, ProducerOptions]>([
    ['at-least-once', {}],
    ['exactly-once', { delivery: 'exactly-once' }],
  ])(
    'from 4 to 12 to 3 to 7 shards under load, %s: keys in order, nothing lost, nothing twice',
    async (_, options) => {
      const stream = uniqueName('stream');
      const recorder = new ShardRecorder();
      const streamer = await streams.connect();
      const other = await streams.connect();
      const join = async (): ReturnType<ShardRecorder['join']> =>
        recorder.join(await streams.connect(), stream, { shards: 4 });
      const members = [await join(), await join()];
      const loads = [];
      for (const [index, each] of [streamer, other].entries()) {
        const producer = await each.createProducer(stream, { ...options, sharder: new KeyHashSharder(4) });
        loads.push(new KeyedLoad(producer, recorder, `p${index}k`, 20));
      }
      const manager = await streamer.createManager();
      for (const shards of [12, 3, 7]) {
        const before = recorder.handled.length;
        await until('some are handled', () => recorder.handled.length > before + 300, 30_000);
        await manager.setShards(stream, shards);
        members.push(await join());
      }
      const owned = (): number[] => ascending(members.flatMap((member) => [...member.owned]));
      await until('the last layout is shared', () => owned().join() === '19,20,21,22,23,24,25', 60_000);
      await Promise.all(loads.map((load) => load.stop()));
      const sent = loads.reduce((sum, load) => sum + load.sent, 0);
      await until('all are handled', () => recorder.handled.length >= sent, 60_000);
      expect(outOfOrder(recorder)).toEqual([]);
      expect(recorder.repeated).toEqual([]);
      expect(recorder.handled.length).toBe(sent);
      expect(members.flatMap(({ errors }) => errors)).toEqual([]);
      await Promise.all(members.map(({ consumer }) => consumer.end()));
    },
    120_000,
  );

  it('makes two changes at the same time one after the other, and the stream has one of the numbers', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    await producer.send('1', { key: 'a' });
    const managers = await Promise.all([streamer.createManager(), (await streams.connect()).createManager()]);
    await Promise.all(managers.map((manager, index) => manager.setShards(stream, 3 + index)));
    const receipt = await producer.send('2', { key: 'a' });
    const layouts = await streams.redis.hget(`nrs:{${stream}}:layout:${stream}`, 'layouts');
    expect(['0:2,2:3,5:4', '0:2,2:4,6:3']).toContain(layouts);
    expect(receipt.shardId).toBeGreaterThanOrEqual(layouts === '0:2,2:3,5:4' ? 5 : 6);
  });

  it('ends a change whose process has died: a send that waits for it passes', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    await producer.send('1', { key: 'a' });
    await streams.redis.hset(`nrs:{${stream}}:layout:${stream}`, 'layouts', '0:2', 'pending', '2:3:0');
    await streams.redis.call('XSETID', `${stream}:0`, '18446744073709551615-18446744073709551615');
    await streams.redis.call('XGROUP', 'CREATE', `${stream}:1`, 'x', '0', 'MKSTREAM');
    await streams.redis.call('XSETID', `${stream}:1`, '18446744073709551615-18446744073709551615');
    const receipt = await producer.send('2', { key: 'a' });
    expect(receipt.shardId).toBeGreaterThanOrEqual(2);
  });

  it('a producer that starts later follows the layout, whatever number of shards it was given', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    await (await streamer.createManager()).setShards(stream, 3);
    await (await streamer.createManager()).setShards(stream, 2);
    for (const shards of [1, 2, 3, 50]) {
      const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(shards) });
      const receipts = await Promise.all(['a', 'b', 'c', 'd'].map((key) => producer.send('1', { key })));
      for (const { shardId } of receipts) expect([3, 4]).toContain(shardId);
    }
    const inTurn = await streamer.createProducer(stream, { sharder: new RoundRobinSharder(2) });
    const receipts = [];
    for (let number = 0; number < 4; number += 1) receipts.push(await inTurn.send(String(number)));
    for (const { shardId } of receipts) expect([3, 4]).toContain(shardId);
  });

  it('a plain XADD to an old shard is refused; after a failover that has opened it, the same number closes it again', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    await streams.redis.xadd(`${stream}:0`, '*', 'msg', '1');
    await (await streamer.createManager()).setShards(stream, 2);
    const append = (): Promise<unknown> => streams.redis.xadd(`${stream}:0`, '*', 'msg', '2');
    const refusal = 'ERR The stream has exhausted the last possible ID, unable to add more items';
    await expect(append()).rejects.toThrow(refusal);
    const [last] = await streams.redis.xrevrange(`${stream}:0`, '+', '-', 'COUNT', 1);
    await streams.redis.call('XSETID', `${stream}:0`, last?.[0] as string);
    await append();
    await (await streamer.createManager()).setShards(stream, 2);
    await expect(append()).rejects.toThrow(refusal);
  });

  it('delayed messages: a change is refused while some wait, and they go to the new shards after it', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    const manager = await streamer.createManager();
    const { id } = await producer.send('later', { key: 'a', delay: 3_600_000 });
    for (const dryRun of [true, false]) {
      const refused = expect.objectContaining({ code: 'ERR_SHARDS_BUSY' });
      await expect(manager.setShards(stream, 3, { dryRun })).rejects.toThrow(refused);
    }
    await manager.cancelDelayed(stream, id);
    await manager.setShards(stream, 3);
    const later = await producer.send('later', { key: 'a', delay: 3_600_000 });
    expect(later.shardId).toBeGreaterThanOrEqual(2);
    const both = await Promise.all(
      ['1', '2'].map((text) => producer.send(text, { key: 'a', deduplication: { id: 'x', within: 60_000 } })),
    );
    expect(new Set(both.map((receipt) => receipt.id)).size).toBe(1);
  });

  it('a group that comes back after a change handles the old shards first, then the new ones from their beginning', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    const recorder = new ShardRecorder();
    const options = { shards: 2, autoStreamReset: 'latest' } as const;
    const first = await recorder.join(streamer, stream, options);
    await first.consumer.end();
    for (let number = 0; number < 20; number += 1) await producer.send(`k:${number}`, { key: 'k' });
    await (await streamer.createManager()).setShards(stream, 5);
    for (let number = 20; number < 40; number += 1) await producer.send(`k:${number}`, { key: 'k' });
    const second = await recorder.join(streamer, stream, options);
    await until('all are handled', () => recorder.handled.length === 40);
    expect(outOfOrder(recorder)).toEqual([]);
    await second.consumer.end();
  });

  it('a message that is not acknowledged in an old shard holds back the new ones', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    await producer.send('k:0', { key: 'k' });
    const recorder = new ShardRecorder();
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const member = await recorder.join(streamer, stream, { shards: 2 }, ({ deliveryCount }) =>
      recorder.handled.length === 1 && deliveryCount === 1 ? held : undefined,
    );
    await until('it is handled', () => recorder.handled.length === 1);
    await (await streamer.createManager()).setShards(stream, 3);
    await producer.send('k:1', { key: 'k' });
    // The position of the group on the new shards is fixed by the look that has seen them.
    await until('the member knows them', async () => {
      const groups = await streams.redis.xinfo('GROUPS', `${stream}:2`);
      return (groups as unknown[]).length === 1;
    });
    expect(member.owned.has(2)).toBe(false);
    expect(recorder.handled.length).toBe(1);
    release();
    await until('the next one is handled', () => recorder.handled.length === 2);
    await until(
      'it owns the new shards',
      () => [2, 3, 4].every((shardId) => member.owned.has(shardId)) && member.owned.size === 3,
    );
    await member.consumer.end();
  });

  it('the number that a stream has already, by its shards: changes nothing, and leaves them open', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(3) });
    await producer.send('1', { key: 'a' });
    await (await streamer.createManager()).setShards(stream, 3);
    const { shardId } = await producer.send('2', { key: 'a' });
    expect(shardId).toBeLessThan(3);
    // From now on it counts, and not the number that a producer was given.
    const another = await streamer.createProducer(stream, { sharder: new KeyHashSharder(8) });
    for (const key of 'abcdefgh') expect((await another.send('3', { key })).shardId).toBeLessThan(3);
  });

  it('consumers that look for shards do not begin with those of a change that is under way', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const recorder = new ShardRecorder();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    await producer.send('k:0', { key: 'k' });
    const layout = `nrs:{${stream}}:layout:${stream}`;
    const redis = streams.redis;
    const [now] = await redis.time();
    await redis.hset(layout, 'layouts', '0:2', 'pending', `2:2:${now}000`);
    for (const shardId of [0, 1, 2, 3]) await redis.xgroup('CREATE', `${stream}:${shardId}`, 'x', '0', 'MKSTREAM');
    const member = await recorder.join(streamer, stream, { shards: undefined, shardDiscoveryInterval: 20 });
    await until('it handles', () => recorder.handled.length === 1);
    expect(ascending(member.owned)).toEqual([0, 1]);
    await (await streamer.createManager()).setShards(stream, 2);
    await producer.send('k:1', { key: 'k' });
    await until('the new shards are handled', () => recorder.handled.length === 2);
    await until('it owns these alone', () => ascending(member.owned).join() === '2,3');
    await member.consumer.end();
  });

  it('consumers that look for shards follow each of many changes, each layout once', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const recorder = new ShardRecorder();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    await producer.send('k:0', { key: 'k' });
    const member = await recorder.join(streamer, stream, { shards: undefined, shardDiscoveryInterval: 20 });
    const manager = await streamer.createManager();
    for (let change = 1; change <= 5; change += 1) {
      await manager.setShards(stream, 30 + change);
      await producer.send(`k:${change}`, { key: 'k' });
      await until('it is handled', () => recorder.handled.length === change + 1, 20_000);
      await until('it owns them all', () => member.owned.size === 30 + change, 20_000);
    }
    expect(outOfOrder(recorder)).toEqual([]);
    expect(member.errors).toEqual([]);
    await member.consumer.end();
  });

  it('a stream that was unassigned and is assigned again is shared as a whole', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const recorder = new ShardRecorder();
    await (await streamer.createManager()).setShards(stream, 2);
    await (await streamer.createManager()).setShards(stream, 3);
    const member = await recorder.join(streamer, stream, { shards: 2 });
    await until('it owns all', () => member.owned.size === 3);
    await member.consumer.unassign(stream);
    await until('it owns none', () => member.owned.size === 0);
    await member.consumer.assign(stream);
    await until('it owns all again', () => member.owned.size === 3);
    await member.consumer.end();
  });

  it('a new group that begins at the end begins at the end of all layouts, also when another member has just created it', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(1) });
    const manager = await streamer.createManager();
    for (const shards of [2, 1, 2]) {
      await producer.send('old', { key: 'k' });
      await manager.setShards(stream, shards);
    }
    await producer.send('old', { key: 'k' });
    // Where another member begins to create it.
    await streams.redis.xgroup('CREATE', `${stream}:5`, 'g', '$');
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, stream, { shards: 2, autoStreamReset: 'latest' });
    await until('it owns the last ones', () => member.owned.has(4) && member.owned.has(5));
    await producer.send('new', { key: 'k' });
    await until('the new one is handled', () => recorder.handled.length > 0);
    expect(recorder.handled.map(({ text }) => text)).toEqual(['new']);
    await member.consumer.end();
  });

  it('an old shard that was deleted is not created again', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    await producer.send('k:0', { key: 'k' });
    await (await streamer.createManager()).setShards(stream, 3);
    // The producer must have noticed the change: what was deleted is not closed any more.
    await producer.send('k:1', { key: 'k' });
    await streams.redis.del(`${stream}:0`, `${stream}:1`);
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, stream, { shards: 2 });
    await until('it is handled', () => recorder.handled.length === 1);
    await until('it owns the new ones', () => ascending(member.owned).join() === '2,3,4');
    expect(await streams.redis.exists(`${stream}:0`, `${stream}:1`)).toBe(0);
    await member.consumer.end();
  });

  it('what comes back into an old shard is handled beside the new ones', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(6) });
    const { id, shardId } = await producer.send('old', { key: 'k' });
    const recorder = new ShardRecorder();
    const member = await recorder.join(streamer, stream, { shards: 6 });
    await (await streamer.createManager()).setShards(stream, 2);
    await producer.send('new', { key: 'k' });
    await until('both are handled', () => recorder.handled.length === 2);
    await until('it owns the new ones', () => ascending(member.owned).join() === '6,7');
    // As a redrive of a dead letter does.
    await streams.redis.xclaim(`${stream}:${shardId}`, 'g', 'other', 0, id, 'IDLE', 3_600_000, 'FORCE', 'JUSTID');
    await until(
      'it is handled again',
      () => recorder.handled.filter(({ text }) => text === 'old').length === 2,
      20_000,
    );
    await until('it owns the new ones alone', () => ascending(member.owned).join() === '6,7', 20_000);
    await member.consumer.end();
  });

  it.each([
    ['milliseconds', 1n],
    ['nanoseconds', 1_000_000n],
  ])('a group is moved to a time in a closed shard with ids in %s', async (_, factor) => {
    const stream = uniqueName('stream');
    const shard = `${stream}:0`;
    const time = Date.now();
    for (const text of ['1', '2', '3'])
      await streams.redis.xadd(shard, `${(BigInt(time) + BigInt(text)) * factor}-0`, 'msg', text);
    await streams.redis.xgroup('CREATE', shard, 'g', '0');
    const manager = await (await streams.connect()).createManager();
    await manager.setShards(stream, 2);
    await manager.setGroupPosition(shard, 'g', new Date(time + 1));
    const read = JSON.stringify(await streams.redis.xreadgroup('GROUP', 'g', 'c', 'STREAMS', shard, '>'));
    expect(read.match(/"msg","."/g)).toEqual(['"msg","2"', '"msg","3"']);
  });

  it('resolves with the new shards, and the manager lists the layouts', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    expect(await manager.layouts(stream)).toEqual({ layouts: [], pending: undefined, givenShards: 0 });
    await (await streamer.createProducer(stream, { sharder: new KeyHashSharder(4) })).send('1', { key: 'k' });
    expect(await manager.layouts(stream)).toEqual({ layouts: [], pending: undefined, givenShards: 4 });
    for (const [shards, first] of [
      [4, 0],
      [3, 4],
      [3, 4],
    ] as const) {
      const before = await Promise.all([streams.redis.keys('*'), manager.layouts(stream)]);
      expect(await manager.setShards(stream, shards, { dryRun: true })).toEqual({ first, shards });
      expect(await Promise.all([streams.redis.keys('*'), manager.layouts(stream)])).toEqual(before);
      expect(await manager.setShards(stream, shards)).toEqual({ first, shards });
    }
    const layouts = [
      { first: 0, shards: 4 },
      { first: 4, shards: 3 },
    ];
    expect(await manager.layouts(stream)).toEqual({ layouts, pending: undefined, givenShards: 4 });
  });

  it('the log of a producer names the new number of shards, also one', async () => {
    const stream = uniqueName('stream');
    const logged: string[] = [];
    const log = (line: string): void => void logged.push(line);
    const streamer = await streams.connect({ logger: { log, warn: log, error: log } });
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    for (const shards of [1, 3]) {
      await (await streamer.createManager()).setShards(stream, shards);
      await producer.send('x', { key: 'k' });
    }
    expect(logged).toEqual([
      `'${stream}' has 1 shard now, from number 0 on`,
      `'${stream}' has 3 shards now, from number 1 on`,
    ]);
  });

  it.each([
    ['a shard that would be made', 3],
    ['a shard that would be closed', 1],
  ])('refuses a key of another type, and changes nothing: %s', async (_, taken) => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    for (let n = 0; n < 3; n += 1) if (n !== taken) await streams.redis.xadd(`${stream}:${n}`, '*', 'msg', 'x');
    await streams.redis.hset(`${stream}:${taken}`, 'a', 'b');
    const manager = await streamer.createManager();
    const refusal = { code: 'ERR_WRONG_TYPE', streamKey: `${stream}:${taken}` };
    await expect(manager.setShards(stream, 5, { dryRun: true })).rejects.toMatchObject(refusal);
    await expect(manager.setShards(stream, 5)).rejects.toMatchObject(refusal);
    expect((await manager.layouts(stream)).pending).toBeUndefined();

    await streams.redis.del(`${stream}:${taken}`);
    expect(await manager.setShards(stream, 5)).toEqual({ first: 3, shards: 5 });
  });

  it('a dead letter of a closed shard that was trimmed is redriven into a shard of now, by its key', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    await manager.setShards(stream, 2);
    await streams.redis.xgroup('CREATE', `${stream}:0`, 'g', '0');
    const place = { stream, key: `${stream}:0`, id: '1-1', group: 'g', consumer: 'c' };
    const headers = Object.entries(place).flatMap(([name, value]) => [`h:dead-letter-${name}`, value]);
    const own = ['msg', 'x', 'h:key', 'Zoë', 'h:dead-letter-office', 'mine'];
    const before = [...headers, 'h:dead-letter-error-name', 'Error'];
    const letters = [
      [...own, ...headers],
      // As programs in languages write it whose maps have no order.
      [...headers.slice(4), ...own, ...headers.slice(0, 4)],
      // It was a dead letter before, of another group.
      [...own, ...before, ...headers],
    ];
    for (const letter of letters) await streams.redis.xadd(`${stream}.dead`, '*', ...letter);
    await manager.setShards(stream, 4);

    expect(await manager.redrive(`${stream}.dead`)).toEqual({ redriven: 3, skipped: 0 });
    const shard = 2 + new KeyHashSharder(4).shardOf(stream, 'Zoë');
    const entries = await streams.redis.xrange(`${stream}:${shard}`, '-', '+');
    const mark = ['h:redrive-group', 'g'];
    expect(entries.map(([, fields]) => fields)).toEqual([
      [...own, ...mark],
      [...own, ...mark],
      [...own, ...before, ...mark],
    ]);
    expect(await streams.redis.xlen(`${stream}.dead`)).toBe(0);
  });

  it('refuses a shard of a stream that is known to have shards, and changes nothing', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    await (await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) })).send('1', { key: 'k' });
    const keys = (await streams.redis.keys('*')).sort();
    await expect(manager.setShards(`${stream}:0`, 3)).rejects.toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_OPTION',
        message: `streamKey must be the stream, '${stream}', and not one of its shards; got "${stream}:0"`,
      }),
    );
    expect((await streams.redis.keys('*')).sort()).toEqual(keys);
    expect(await manager.setShards(`${uniqueName('tenant')}:7`, 3)).toEqual({ first: 0, shards: 3 });
  });

  it('info() marks closed shards, which do not count for the position of a group once they are delivered', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(1) });
    const { id } = await producer.send('old', { key: 'k' });
    await manager.setShards(stream, 2);
    for (const shard of [0, 1, 2]) await streams.redis.xgroup('CREATE', `${stream}:${shard}`, 'g', '0');
    for (const shard of [1, 2]) await streams.redis.xgroup('SETID', `${stream}:${shard}`, 'g', '9999999999999-0');
    const position = async (): Promise<unknown[]> => {
      const [info, groups] = await Promise.all([manager.info(stream), manager.groups(stream)]);
      expect(info.shards.map(({ isClosed }) => isClosed)).toEqual([true, false, false]);
      return [info.groups[0]?.lastDeliveredId, groups[0]?.lastDeliveredId];
    };
    expect(await position()).toEqual(['0-0', '0-0']);
    await streams.redis.xgroup('SETID', `${stream}:0`, 'g', id);
    expect(await position()).toEqual(['9999999999999-0', '9999999999999-0']);
  });

  itSends('follows a change with ids in nanoseconds', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect({ timestampFormat: 'ns' });
    const producer = await streamer.createProducer(stream, { sharder: new KeyHashSharder(2) });
    const before = await producer.send('1', { key: 'k' });
    await (await streamer.createManager()).setShards(stream, 3);
    const after = await producer.send('2', { key: 'k' });
    expect([before.shardId < 2, after.shardId >= 2]).toEqual([true, true]);
  });
});
