import { describe, expect, it } from '@jest/globals';
import {
  KeyHashSharder,
  PseudoRandomSharder,
  RedisStreamer,
  RedisStreamsRetryException,
  RoundRobinSharder,
} from '../../../lib/index.js';
import type { ConsumerOptions, ProducerOptions, SendOptions, StreamerOptions } from '../../../lib/index.js';
import { resolveConsumerOptions, resolveProducerOptions } from '../../../lib/engine/options/resolve-options.js';
import { uniqueName } from '../../support/redis.js';
import { useStreams } from '../../support/streams.js';

const streams = useStreams();

/** A value of a wrong type, as an untyped program may pass it. */
const wrong = <T>(value: unknown): T => value as T;

const refused = (option: string, value: unknown, rule: RegExp | string) =>
  expect.objectContaining({
    code: 'ERR_INVALID_OPTION',
    retryable: false,
    option,
    value,
    message: expect.stringMatching(rule),
  });

/** A streamer without a connection: every refusal comes before any I/O. */
const unconnected = (): RedisStreamer =>
  new RedisStreamer(() => {
    throw new Error('this test must not connect');
  });

describe('streamer and connection', () => {
  const cases: Array<[StreamerOptions, string, unknown]> = [
    [{ timeout: -1 }, 'timeout', -1],
    [{ timeout: Number.NaN }, 'timeout', Number.NaN],
    [{ timeout: 1.5 }, 'timeout', 1.5],
    [{ timeout: wrong('5') }, 'timeout', '5'],
    [{ blockTimeout: 0 }, 'blockTimeout', 0],
    [{ blockTimeout: 60_001 }, 'blockTimeout', 60_001],
    [{ timeout: 2 ** 31 }, 'timeout', 2 ** 31],
    [{ messageField: '' }, 'messageField', ''],
    [{ keyPrefix: wrong(7) }, 'keyPrefix', 7],
  ];
  it.each(cases)('refuses the streamer options %j', (options, option, value) => {
    expect(() => new RedisStreamer('redis://localhost', options)).toThrow(refused(option, value, option));
  });

  it('the error of an option that may be false mentions that', () => {
    expect(() => new RedisStreamer('redis://localhost', { blockTimeout: 0 })).toThrow(
      refused('blockTimeout', 0, 'must be a whole number of milliseconds from 100 to 60000, or false'),
    );
  });

  it.each([null, 'redis://:secret@h', [], 7])('refuses %j in place of options, without showing it', (options) => {
    expect(() => new RedisStreamer('redis://localhost', wrong(options))).toThrow(
      /^options must be an object; got [a-z ]+$/,
    );
  });

  it.each([['http://localhost'], ['localhost:6379'], ['']])('refuses the address %j', (address) => {
    expect(() => new RedisStreamer(address)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_OPTION',
        option: 'connection',
        message: expect.stringContaining('rediss://'),
      }),
    );
  });

  it.each(['redis://user:my#secret@localhost', 'redis://:secret@[bad', 'redis://[bad?password=secret'])(
    'refuses an address that cannot be parsed without showing its password: %#',
    (address) => {
      const message = expect.not.stringContaining('secret');
      expect(() => new RedisStreamer(address)).toThrow(
        expect.objectContaining({ option: 'connection', message, value: message }),
      );
    },
  );

  it.each([[7], [[]], [true]])('refuses the connection %j', (connection) => {
    expect(() => new RedisStreamer(wrong(connection))).toThrow(refused('connection', connection, 'ioredis options'));
  });

  it('refuses a cluster without nodes', () => {
    expect(() => new RedisStreamer({ cluster: [] })).toThrow(refused('connection.cluster', [], 'at least one node'));
  });
});

/** The values of unknown options are not shown: they may be passwords in the wrong place. */
const misspelled = (option: string, right: string) =>
  expect.objectContaining({
    code: 'ERR_INVALID_OPTION',
    option,
    value: undefined,
    message: `${option} is not an option here; ${right}`,
  });

describe('a misspelled option is refused with the nearest right one', () => {
  const inAnyCase = { mode: 'load-balanced', group: 'g' } as const;
  const calls: Array<[string, string, () => unknown]> = [
    ['timout', "did you mean 'timeout'?", () => new RedisStreamer('redis://h', wrong({ timout: 5 }))],
    ['maxlen', "did you mean 'maxLen'?", () => unconnected().createProducer('s', wrong({ maxlen: 5 }))],
    ['autocommit', "did you mean 'autoCommit'?", () => consumer({ ...inAnyCase, autocommit: 'rolling' })],
    ['prefech', "did you mean 'prefetch'?", () => consumer({ mode: 'real-time', prefech: 5 })],
    ['retention.intervall', "did you mean 'interval'?", () => consumer({ ...inAnyCase, retention: { intervall: 5 } })],
    ['header', "did you mean 'headers'?", async () => send({ header: {} })],
    ['delays', "did you mean 'delay'?", async () => send({ delays: 5 })],
    ['tll', "did you mean 'ttl'?", () => unconnected().createInbox('g', wrong({ tll: 5_000 }))],
    ['timeOuts', "did you mean 'timeout'?", () => unconnected().health(wrong({ timeOuts: 5 }))],
    ['cuont', "did you mean 'count'?", async () => (await manager()).range('s', '-', '+', wrong({ cuont: 1 }))],
    [
      'consumers',
      "did you mean 'consumer'?",
      async () => (await manager()).pending('s', 'g', wrong({ consumers: 'c' })),
    ],
    ['reasons', "did you mean 'reason'?", async () => (await manager()).deadLetters('s', wrong({ reasons: 'x' }))],
    [
      'stream',
      "did you mean 'deadLetterStream'?",
      async () => (await manager()).removeDeadLetter('s', '1-0', wrong({ stream: 's' })),
    ],
    ['dryrun', "did you mean 'dryRun'?", async () => (await manager()).redrive('s', wrong({ dryrun: true }))],
    ['options.keepfor', "did you mean 'keepFor'?", async () => trim({ keepfor: 5 })],
    ['options.interval', 'the options are deadAfter, deadGroups, dryRun, keepFor', async () => trim({ interval: 500 })],
  ];
  const manager = () => unconnected().createManager();
  const trim = async (options: object) => (await manager()).trimAcknowledged('s', options);
  const consumer = (options: object) => unconnected().createConsumer('s', wrong<ConsumerOptions>(options));
  const send = async (options: object) => (await unconnected().createProducer('s')).send('x', wrong(options));

  it.each(calls)('%s', async (option, right, call) => {
    await expect((async () => call())()).rejects.toEqual(misspelled(option, right));
  });
});

describe('a time that no timer of Node.js can wait is refused, not run at once', () => {
  const TOO_LONG = 2 ** 31;
  it.each<[option: string, options: object]>([
    ['autoCommitDelay', { autoCommit: 'delayed', autoCommitDelay: TOO_LONG }],
    ['autoCommitInterval', { autoCommitInterval: TOO_LONG }],
    ['autoClaimInterval', { autoClaimInterval: TOO_LONG }],
    ['autoClaimIdle', { autoClaimIdle: TOO_LONG }],
    ['shardDiscoveryInterval', { shardDiscoveryInterval: TOO_LONG }],
    ['retention.interval', { retention: { interval: TOO_LONG } }],
  ])('%s', async (option, options) => {
    const all = { mode: 'load-balanced', group: 'g', ...options };
    await expect(unconnected().createConsumer('s', wrong<ConsumerOptions>(all))).rejects.toEqual(
      refused(option, TOO_LONG, 'whole number of milliseconds from \\d+ to 2147483647'),
    );
  });

  it.each([TOO_LONG, -1, Number.NaN, '5'])('the delay %p of an exception that asks for a retry', (delay) => {
    const rule = /^delay must be a whole number of milliseconds from 0 to 2147483647; got /;
    expect(() => new RedisStreamsRetryException(wrong(delay))).toThrow(rule);
  });

  it('but an age may be longer, because no timer waits for it', () => {
    const [mode, age] = ['load-balanced', 10 * TOO_LONG] as const;
    const retention = { keepFor: age, deadAfter: age };
    expect(() => resolveConsumerOptions({ mode, consumerExpiry: age, retention })).not.toThrow();
    expect(() => resolveProducerOptions({ minAge: age })).not.toThrow();
  });
});

describe('consumer options', () => {
  const cases: Array<[unknown, string, unknown, RegExp | string]> = [
    [undefined, 'mode', undefined, "'real-time', 'resumable', 'load-balanced'"],
    [{}, 'mode', undefined, "'real-time', 'resumable', 'load-balanced'"],
    [{ mode: 'realtime' }, 'mode', 'realtime', "'real-time', 'resumable', 'load-balanced'"],
    [{ mode: 'real-time', group: 'g' }, 'group', 'g', 'real-time mode'],
    [{ mode: 'real-time', consumer: 'c' }, 'consumer', 'c', 'real-time mode'],
    [{ mode: 'real-time', autoCommit: 'rolling' }, 'autoCommit', 'rolling', 'real-time mode'],
    [{ mode: 'real-time', autoCommitInterval: 5 }, 'autoCommitInterval', 5, 'real-time mode'],
    [{ mode: 'real-time', mkStream: true }, 'mkStream', true, 'real-time mode'],
    [{ mode: 'real-time', autoClaimIdle: 500 }, 'autoClaimIdle', 500, 'load-balanced mode only'],
    [{ mode: 'resumable', autoClaimInterval: 500 }, 'autoClaimInterval', 500, 'load-balanced mode only'],
    [{ mode: 'resumable', autoClaimIdle: 500 }, 'autoClaimIdle', 500, 'load-balanced mode only'],
    [{ mode: 'load-balanced', position: 'consumer' }, 'position', 'consumer', 'resumable mode only'],
    [{ mode: 'resumable', position: 'all' }, 'position', 'all', "'group', 'consumer'"],
    [{ mode: 'resumable', shardOwnership: 'shared' }, 'shardOwnership', 'shared', 'load-balanced mode only'],
    [{ mode: 'load-balanced', shardOwnership: 'stolen' }, 'shardOwnership', 'stolen', "'shared'"],
    [{ mode: 'resumable', autoCommit: 'rolling', autoCommitDelay: 5 }, 'autoCommitDelay', 5, "'delayed' only"],
    [
      { mode: 'resumable', autoCommit: 'sometimes' },
      'autoCommit',
      'sometimes',
      "'immediate', 'delayed', 'rolling', 'disabled'",
    ],
    [{ mode: 'resumable', autoStreamReset: 'newest' }, 'autoStreamReset', 'newest', "'earliest', 'latest'"],
    [{ mode: 'resumable', group: '' }, 'group', '', 'non-empty'],
    [{ mode: 'resumable', consumer: '' }, 'consumer', '', 'non-empty'],
    [{ mode: 'resumable', mkStream: 'yes' }, 'mkStream', 'yes', 'true or false'],
    [{ mode: 'real-time', batchSize: 0 }, 'batchSize', 0, 'from 1 to'],
    [{ mode: 'real-time', batchSize: -1 }, 'batchSize', -1, 'from 1 to'],
    [{ mode: 'real-time', batchSize: Number.NaN }, 'batchSize', Number.NaN, 'whole number.*NaN'],
    [{ mode: 'real-time', batchSize: Infinity }, 'batchSize', Infinity, 'whole number.*Infinity'],
    [{ mode: 'real-time', prefetch: 0 }, 'prefetch', 0, 'from 1 to'],
    [{ mode: 'real-time', prefetch: 2.5 }, 'prefetch', 2.5, 'whole number'],
    [{ mode: 'real-time', shardDiscoveryInterval: -5 }, 'shardDiscoveryInterval', -5, 'from 10 to'],
    [{ mode: 'real-time', shardDiscoveryInterval: true }, 'shardDiscoveryInterval', true, 'whole number'],
    [{ mode: 'resumable', autoCommitDelay: -1 }, 'autoCommitDelay', -1, 'from 0 to'],
    [{ mode: 'resumable', autoCommitInterval: Number.NaN }, 'autoCommitInterval', Number.NaN, 'from 0 to'],
    [{ mode: 'load-balanced', autoClaimInterval: 0 }, 'autoClaimInterval', 0, 'from 10 to'],
    [{ mode: 'load-balanced', autoClaimIdle: 50 }, 'autoClaimIdle', 50, 'from 100 to'],
  ];
  it.each(cases)('refuses %j', async (options, option, value, rule) => {
    await expect(unconnected().createConsumer('stream', wrong<ConsumerOptions>(options))).rejects.toEqual(
      refused(option, value, rule),
    );
  });

  it.each([[[]], [''], [['good', '']], [7], [undefined]])('refuses the stream list %j', async (keys) => {
    const creation = unconnected().createConsumer(wrong<string>(keys), { mode: 'real-time' });
    await expect(creation).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'streamKeys' });
  });
});

describe('producer options and sending', () => {
  const cases: Array<[unknown, string, unknown, RegExp | string]> = [
    [{ maxLen: 0 }, 'maxLen', 0, 'at least 1'],
    [{ minAge: Number.NaN }, 'minAge', Number.NaN, 'at least 1'],
    [{ maxLen: 5, minAge: 7 }, 'minAge', 7, 'combined with maxLen'],
    [{ maxBatch: 0 }, 'maxBatch', 0, 'from 1 to'],
    [{ maxQueued: -1 }, 'maxQueued', -1, 'at least 1'],
    [{ maxQueuedBytes: 0 }, 'maxQueuedBytes', 0, 'at least 1'],
    [{ delivery: 'perhaps' }, 'delivery', 'perhaps', "'at-least-once', 'at-most-once'"],
    [{ sharder: 3 }, 'sharder', 3, 'must be a Sharder'],
  ];
  it.each(cases)('refuses %j', async (options, option, value, rule) => {
    await expect(unconnected().createProducer('stream', wrong<ProducerOptions>(options))).rejects.toEqual(
      refused(option, value, rule),
    );
  });

  it.each([0, -1, Number.NaN, 1.5, 10_001])('refuses %p shards', (shards) => {
    for (const Sharder of [RoundRobinSharder, PseudoRandomSharder, KeyHashSharder]) {
      expect(() => new Sharder(shards)).toThrow(refused('shards', shards, 'from 1 to 10000'));
    }
  });

  const sends: Array<[unknown, unknown, string, RegExp | string]> = [
    [undefined, {}, 'payload', 'string or a Uint8Array'],
    [7, {}, 'payload', 'string or a Uint8Array; got 7'],
    [{ a: 1 }, {}, 'payload', 'string or a Uint8Array'],
    ['x', { timestamp: new Date(Number.NaN) }, 'timestamp', 'invalid Date'],
    ['x', { timestamp: new Date(-1) }, 'timestamp', '1969-12-31'],
    ['x', { timestamp: new Date(2 ** 48) }, 'timestamp', '10889'],
    ['x', { timestamp: Date.now() }, 'timestamp', 'valid Date'],
    ['x', { headers: { a: 1 } }, 'headers.a', 'must be a string; got 1'],
    ['x', { headers: 5 }, 'headers', 'must be an object'],
    ['x', { key: 7 }, 'key', 'must be a string; got 7'],
    ['x', { key: null }, 'key', 'must be a string; got null'],
    ['x', 5, 'options', 'must be an object'],
  ];
  it.each(sends)('refuses to send %j with %j, by every send method', async (payload, options, option, rule) => {
    const producer = await unconnected().createProducer('stream');
    const error = expect.objectContaining({ code: 'ERR_INVALID_OPTION', option, message: expect.stringMatching(rule) });

    await expect(producer.send(wrong(payload), wrong<SendOptions>(options))).rejects.toEqual(error);
    expect(() => producer.enqueue(wrong(payload), wrong<SendOptions>(options))).toThrow(error);
    await producer.end();
  });

  it('refuses an empty stream key and an invalid trim', async () => {
    const producer = await unconnected().createGenericProducer();

    await expect(producer.sendTo('', 'x')).rejects.toEqual(refused('streamKey', '', 'non-empty'));
    await expect(producer.trimMaxLen('stream', -1)).rejects.toEqual(refused('maxLen', -1, 'at least 0'));
    await expect(producer.trimMinTimestamp('stream', new Date(Number.NaN))).rejects.toMatchObject({
      option: 'timestamp',
    });
    await expect(producer.trimMaxLen('', 1)).rejects.toEqual(refused('streamKey', '', 'non-empty'));
    await producer.end();
  });
});

describe('calls on a consumer', () => {
  it('refuses invalid ids, times and shards', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const options = { mode: 'resumable', group: 'g', autoCommit: 'disabled', mkStream: true } as const;
    const consumer = await streamer.createConsumer(stream, options);

    for (const id of ['', 'x', '1-2-3', '-1', '1-99999999999999999999', '18446744073709551616-0']) {
      await expect(consumer.rewind({ id })).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'to' });
      expect(() => consumer.ackWith(stream, 0, id)).toThrow(refused('id', id, 'entry id'));
    }
    await expect(consumer.rewind(wrong('start'))).rejects.toEqual(refused('to', 'start', "'beginning', 'end'"));
    await expect(consumer.seek(new Date(Number.NaN))).rejects.toMatchObject({ option: 'timestamp' });
    await expect(consumer.seek(new Date(-1))).rejects.toMatchObject({ option: 'timestamp' });
    await expect(consumer.assign('')).rejects.toMatchObject({ option: 'streamKeys', value: '' });
    await expect(consumer.assign('other', -1)).rejects.toEqual(refused('shardId', -1, 'at least 0'));
    await expect(consumer.unassign(stream, Number.NaN)).rejects.toEqual(refused('shardId', Number.NaN, 'at least 0'));
    expect(() => consumer.ackWith('other', 0, '1-1')).toThrow(/must be assigned to this consumer; got .*other/);
    expect(() => consumer.ack(wrong({ id: '1-1' }))).toThrow(expect.objectContaining({ option: 'message' }));
  });

  it('refuses every call after end(), except another end()', async () => {
    const stream = uniqueName('stream');
    const streamer = await streams.connect();
    const options = { mode: 'resumable', group: 'g', autoCommit: 'disabled', mkStream: true } as const;
    const consumer = await streamer.createConsumer(stream, options);
    await consumer.end();

    const ended = { code: 'ERR_CONSUMER_ENDED' };
    await expect(consumer.next()).rejects.toMatchObject(ended);
    await expect(consumer.commit()).rejects.toMatchObject(ended);
    await expect(consumer.seek(new Date())).rejects.toMatchObject(ended);
    await expect(consumer.rewind('end')).rejects.toMatchObject(ended);
    await expect(consumer.assign('other')).rejects.toMatchObject(ended);
    expect(() => consumer.ackWith(stream, 0, '1-1')).toThrow(expect.objectContaining(ended));
    await consumer.end();

    await streamer.disconnect();
    await expect(streamer.createManager()).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    await expect(streamer.createProducer(stream)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
  });
});

describe('keys and ranges', () => {
  it('names a key that holds another type than a stream, on every operation', async () => {
    const key = uniqueName('key');
    await streams.redis.set(key, 'a string');
    const streamer = await streams.connect();
    const manager = await streamer.createManager();
    const producer = await streamer.createProducer(key);
    const failure = { code: 'ERR_WRONG_TYPE', streamKey: key, message: expect.stringContaining(key) };

    await expect(streamer.createConsumer(key, { mode: 'real-time' })).rejects.toMatchObject(failure);
    const group = { mode: 'resumable', group: 'g', mkStream: true } as const;
    await expect(streamer.createConsumer(key, group)).rejects.toMatchObject(failure);
    await expect(producer.send('x')).rejects.toMatchObject(failure);
    await expect(producer.send('x', { timestamp: new Date() })).rejects.toMatchObject(failure);
    await expect(producer.trimMaxLen(key, 1)).rejects.toMatchObject(failure);
    await expect(producer.trimMinTimestamp(key, new Date())).rejects.toMatchObject(failure);
    await expect(manager.range(key, '-', '+')).rejects.toMatchObject(failure);
    await expect(manager.groups(key)).rejects.toMatchObject(failure);
    await expect(manager.info(key)).rejects.toMatchObject(failure);
    await expect(manager.consumers(key, 'g')).rejects.toMatchObject(failure);
    await expect(manager.deadLetters('s', { deadLetterStream: key })).rejects.toMatchObject(failure);
    await expect(manager.removeDeadLetter('s', '1-0', { deadLetterStream: key })).rejects.toMatchObject(failure);
  });

  it('reports a key that turns into another type to its consumer, which continues with its other streams', async () => {
    const [bad, good] = [uniqueName('bad'), uniqueName('good')];
    const streamer = await streams.connect();
    const producer = await streamer.createGenericProducer();
    await Promise.all([producer.sendTo(bad, 'x'), producer.sendTo(good, 'x')]);
    for (const options of [{ mode: 'real-time' }, { mode: 'resumable', group: 'g' }] as const) {
      await streams.redis.del(bad);
      await producer.sendTo(bad, 'x');
      const consumer = await streamer.createConsumer([bad, good], options);
      await streams.redis.set(bad, 'a string');

      await producer.sendTo(good, 'y');
      const outcomes = await Promise.allSettled([consumer.next(), consumer.next()]);
      expect(outcomes).toContainEqual({
        status: 'rejected',
        reason: expect.objectContaining({ code: 'ERR_WRONG_TYPE', streamKey: bad }),
      });
      expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
      await consumer.end();
    }
  });

  it('refuses invalid bounds, cursors and positions', async () => {
    const manager = await unconnected().createManager();

    await expect(manager.scan('next')).rejects.toEqual(refused('cursor', 'next', 'cursor that scan'));
    await expect(manager.range('s', 'yesterday', '+')).rejects.toEqual(refused('from', 'yesterday', 'entry id'));
    await expect(manager.range('s', '-', new Date(Number.NaN))).rejects.toMatchObject({ option: 'to' });
    await expect(manager.range('s', wrong(null), '+')).rejects.toEqual(refused('from', null, 'must be a Date'));
    await expect(manager.range('s', '-', { before: new Date(-5) })).rejects.toMatchObject({ option: 'to' });
    await expect(manager.range('s', '-', '+', { count: 0 })).rejects.toEqual(refused('count', 0, 'at least 1'));
    await expect(manager.range('', '-', '+')).rejects.toEqual(refused('streamKey', '', 'non-empty'));
    await expect(manager.pending('s', 'g', { after: 'x' })).rejects.toEqual(refused('after', 'x', 'entry id'));
    await expect(manager.pending('s', 'g', { minIdle: -1 })).rejects.toEqual(refused('minIdle', -1, 'at least 0'));
    await expect(manager.pending('s', '')).rejects.toEqual(refused('group', '', 'non-empty'));
    await expect(manager.setGroupPosition('s', 'g', { id: 'x' })).rejects.toMatchObject({ option: 'to' });
    await expect(manager.setGroupPosition('s', 'g', wrong(null))).rejects.toMatchObject({ option: 'to' });
    await expect(manager.setGroupPosition('s', 'g', new Date(-1))).rejects.toMatchObject({ option: 'to' });
    await expect(manager.removeConsumer('s', 'g', '')).rejects.toEqual(refused('consumer', '', 'non-empty'));
    await expect(manager.info('')).rejects.toEqual(refused('streamKey', '', 'non-empty'));
    await expect(manager.consumers('s', wrong(5))).rejects.toEqual(refused('group', 5, 'non-empty'));
  });

  it('refuses invalid queries for dead letters, and invalid ids', async () => {
    const manager = await unconnected().createManager();
    const find = async (query: object) => manager.deadLetters('s', wrong(query));
    const remove = async (id: unknown) => manager.removeDeadLetter('s', wrong(id));

    await expect(manager.deadLetters('')).rejects.toEqual(refused('streamKey', '', 'non-empty'));
    await expect(find({ reason: '' })).rejects.toEqual(refused('reason', '', 'non-empty'));
    await expect(find({ reason: /x/ })).rejects.toMatchObject({ option: 'reason' });
    await expect(find({ group: '' })).rejects.toEqual(refused('group', '', 'non-empty'));
    await expect(find({ deadLetterStream: '' })).rejects.toEqual(refused('deadLetterStream', '', 'non-empty'));
    await expect(find({ since: '2026-01-01' })).rejects.toEqual(refused('since', '2026-01-01', 'valid Date'));
    await expect(find({ since: new Date(-1) })).rejects.toMatchObject({ option: 'since' });
    await expect(find({ until: new Date(Number.NaN) })).rejects.toMatchObject({ option: 'until' });
    await expect(find({ until: new Date(8.64e15) })).rejects.toMatchObject({ option: 'until' });
    const swapped = { since: new Date(2), until: new Date(1) };
    await expect(find(swapped)).rejects.toEqual(refused('until', swapped.until, "not be before 'since'"));
    await expect(find({ count: 0 })).rejects.toEqual(refused('count', 0, 'from 1 to 10000'));
    await expect(find({ count: 10_001 })).rejects.toEqual(refused('count', 10_001, 'from 1 to 10000'));
    await expect(find({ after: 'x' })).rejects.toEqual(refused('after', 'x', 'entry id'));
    await expect(find({ after: '-' })).rejects.toEqual(refused('after', '-', 'entry id'));
    for (const id of ['x', '-', '5', '5-', '1-0 2-0', '1-18446744073709551616', '5-*']) {
      await expect(remove(id)).rejects.toEqual(refused('id', id, 'entry id'));
    }
    for (const id of ['', undefined, 5, ['1-0']]) await expect(remove(id)).rejects.toMatchObject({ option: 'id' });
  });
});
