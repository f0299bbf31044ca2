import { setImmediate as turn } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';

import { afterEach, describe, expect, it, jest } from '@jest/globals';
import fc from 'fast-check';

import { AppendReply } from '../../lib/redis/wire/append-reply.js';
import { noSchema, PageReply } from '../../lib/redis/wire/page-reply.js';
import { IgnoredReply, ValueReply, ValuesReply } from '../../lib/redis/wire/reply-handler.js';
import { RespChannel } from '../../lib/redis/wire/resp-channel.js';
import { RespConnection } from '../../lib/redis/wire/resp-connection.js';
import { RespReader } from '../../lib/redis/wire/resp-reader.js';
import { pagesOf } from '../../lib/redis/wire/stream-entry.js';
import type { StreamPage } from '../../lib/redis/wire/stream-entry.js';
import { FakeSocket, resp } from '../support/fake-socket.js';
import type { RespValue } from '../support/fake-socket.js';
import { until } from '../support/until.js';

fc.configureGlobal({ seed: 20_261_126, numRuns: 300 });

const open: RespConnection[] = [];
afterEach(() => {
  jest.useRealTimers();
  for (const connection of open.splice(0)) connection.end(new Error('the test is over'));
});

function connect(replyTimeout = 60_000): { socket: FakeSocket; connection: RespConnection } {
  const socket = new FakeSocket();
  const connection = new RespConnection(socket.asSocket, { replyTimeout });
  open.push(connection);
  return { socket, connection };
}

const PING = Buffer.from('*1\r\n$4\r\nPING\r\n');
const streamKey = (key: string): string => key;

const buffer = fc.uint8Array({ maxLength: 30 }).map((bytes) => Buffer.from(bytes));
const id = fc.tuple(fc.nat(), fc.nat()).map(([time, count]) => Buffer.from(`${time}-${count}`));
const fields = fc
  .array(fc.tuple(fc.oneof(fc.constant(Buffer.from('msg')), buffer), buffer))
  .map((pairs) => pairs.flat());
const entry = fc.oneof(
  fc.tuple(id, fields),
  fc.tuple(id, fc.constant(null)),
  fc.tuple(id, fields, fc.nat(), fc.nat(9)),
  fc.tuple(id, fields, fc.constant(Buffer.from('7')), fc.constant(Buffer.from('3'))),
  fc.constant(null),
);
const pages = fc.array(fc.tuple(buffer, fc.array(entry)), { minLength: 1, maxLength: 3 });
const outcome = fc.oneof(
  id.map((bytes) => bytes as Buffer | Error),
  fc.constantFrom(new Error('OOM command not allowed'), new Error('ERR with “quotes”')),
);
const { value: anyValue } = fc.letrec<{ value: RespValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    buffer,
    fc.integer(),
    fc.constant(null),
    fc.constant(new Error('NOSCRIPT none')),
    fc.array(tie('value'), { maxLength: 4 }),
  ),
}));

/** A handler of a reply, the bytes of the reply, and the result that must come of it. */
interface Exchange {
  readonly handler: () => ValueReply | ValuesReply | PageReply | AppendReply;
  readonly reply: Buffer;
  readonly result: unknown;
}

const exchange: fc.Arbitrary<Exchange> = fc.oneof(
  anyValue.map((value) => ({ handler: () => new ValueReply('buffer'), reply: resp(value), result: value })),
  fc.array(anyValue, { minLength: 1, maxLength: 3 }).map((values) => ({
    handler: () => new ValuesReply('buffer', values.length),
    reply: Buffer.concat(values.map(resp)),
    result: values,
  })),
  fc.constantFrom(null, new Error('NOGROUP none')).map((value) => ({
    handler: () => new PageReply(streamKey, noSchema()),
    reply: resp(value),
    result: value ?? [],
  })),
  pages.map((value) => ({
    handler: () => new PageReply(streamKey, noSchema()),
    reply: resp(value as RespValue),
    result: pagesOf(value, streamKey),
  })),
  fc.tuple(fc.array(outcome, { minLength: 1 }), fc.boolean()).map(([outcomes, wantsIds]) => ({
    handler: () => new AppendReply(outcomes.length, wantsIds),
    reply: Buffer.concat(outcomes.map(resp)),
    result: expectedOutcomes(outcomes, wantsIds),
  })),
);

function expectedOutcomes(outcomes: ReadonlyArray<Buffer | Error>, wantsIds: boolean): unknown {
  if (!wantsIds && !outcomes.some((each) => each instanceof Error)) return undefined;
  return outcomes.map((each) => (each instanceof Error ? each : wantsIds ? each.toString() : ''));
}

/** Results with errors by their texts, and pages without schemas, which must be those of their fields. */
function comparable(found: unknown): unknown {
  if (found instanceof Error) return `error ${found.message}`;
  if (Buffer.isBuffer(found)) return found.toString('latin1');
  if (Array.isArray(found)) return found.map(comparable);
  if (typeof found !== 'object' || found === null || !('entries' in found)) return found;
  const { streamKey: key, entries } = found as StreamPage;
  return {
    key,
    entries: entries.map(({ schema, ...rest }) => {
      const names = rest.fields?.filter((_, index) => index % 2 === 0);
      if (schema && !isDeepStrictEqual(schema.names, names)) throw new Error(`schema of ${schema.names.join()}`);
      return { ...rest, fields: comparable(rest.fields) };
    }),
  };
}

/** Cuts the bytes at the given places. */
function chunksOf(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

const settled = async (promises: ReadonlyArray<Promise<unknown>>): Promise<unknown[]> =>
  (await Promise.allSettled(promises)).map((each) =>
    each.status === 'fulfilled' ? each.value : (each.reason as unknown),
  );

describe('RESP connection', () => {
  it('gives each command its own reply wherever the bytes are cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(exchange, { minLength: 1, maxLength: 6 }),
        fc.array(fc.nat()),
        async (exchanges, cuts) => {
          const { socket, connection } = connect();
          const handlers = exchanges.map(({ handler }) => handler());
          for (const handler of handlers) connection.send(PING, handler);
          const results = settled(handlers.map(({ promise }) => promise as Promise<unknown>));
          const bytes = Buffer.concat(exchanges.map(({ reply }) => reply));
          for (const chunk of chunksOf(bytes, cuts)) socket.emit('data', chunk);

          expect(connection.waiting).toBe(0);
          expect((await results).map(comparable)).toEqual(exchanges.map(({ result }) => comparable(result)));
        },
      ),
      { endOnFailure: true },
    );
  });

  it('hands over what the server announces between the replies, wherever the bytes are cut (RESP3)', async () => {
    const announced = '>2\r\n$10\r\ninvalidate\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n';
    const page = '%1\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n1-1\r\n*2\r\n$3\r\nmsg\r\n$1\r\nx\r\n';
    const all = '>2\r\n$10\r\ninvalidate\r\n_\r\n';
    const bytes = Buffer.from(`${announced}:7\r\n${announced}${page}${all}_\r\n${announced}`);
    for (let cut = 1; cut < bytes.length; cut += 1) {
      const pushes: unknown[] = [];
      const socket = new FakeSocket();
      const onPush = (values: unknown): unknown => pushes.push(values);
      const connection = new RespConnection(socket.asSocket, { replyTimeout: 60_000, onPush });
      open.push(connection);
      const length = new ValueReply('utf8');
      const found = new PageReply(streamKey, noSchema());
      const nothing = new PageReply(streamKey, noSchema());
      for (const handler of [length, found, nothing]) connection.send(PING, handler);
      for (const chunk of [bytes.subarray(0, cut), bytes.subarray(cut)]) socket.emit('data', chunk);

      const keys = ['invalidate', ['a', 'b']];
      expect(pushes).toEqual([keys, keys, ['invalidate', null], keys]);
      expect(await length.promise).toBe(7);
      expect(await found.promise).toMatchObject([{ streamKey: 'a', entries: [{ id: '1-1' }] }]);
      expect(await nothing.promise).toEqual([]);
    }
  });

  it('writes the commands of one turn together, in the order in which they were sent', async () => {
    const { socket, connection } = connect();
    for (const name of ['a', 'b', 'c']) {
      connection.send(Buffer.from(name), new IgnoredReply());
      expect(socket.corks).toBe(1);
    }
    await turn();
    expect(socket.corks).toBe(0);
    expect(Buffer.concat(socket.written).toString()).toBe('abc');
  });

  it('writes at once what is flushed or large, with what was sent before it', async () => {
    const { socket, connection } = connect();
    connection.send(PING, new IgnoredReply());
    connection.flush();
    expect(socket.corks).toBe(0);
    connection.send(PING, new IgnoredReply());
    expect(socket.corks).toBe(1);
    connection.send(Buffer.alloc(16 * 1024), new IgnoredReply());
    expect(socket.corks).toBe(0);
    connection.flush();
    await turn();
    expect(socket.corks).toBe(0);
    expect(socket.written).toHaveLength(3);
  });

  it('confirms the replies that were read when it breaks in the middle of a batch, and no others', async () => {
    const { socket, connection } = connect();
    const batch = new AppendReply(4, true);
    const silent = new AppendReply(3, false);
    const values = new ValuesReply('utf8', 3);
    connection.send(PING, batch);
    socket.emit('data', Buffer.from('$3\r\n1-0\r\n-OOM no\r\n$3\r\n3'));
    connection.send(PING, silent);
    connection.send(PING, values);
    socket.emit('end');

    const lost = 'error Redis closed the connection';
    expect(comparable(await batch.promise)).toEqual(['1-0', 'error OOM no', lost, lost]);
    expect(comparable(await silent.promise)).toEqual([lost, lost, lost]);
    expect(comparable(await values.promise)).toEqual([lost, lost, lost]);
    expect(socket.destroyed).toBe(true);
  });

  it.each([true, false])('takes no other text for the id of an entry (ids wanted: %s)', async (wantsIds) => {
    const { socket, connection } = connect();
    const batch = new AppendReply(4, wantsIds);
    connection.send(PING, batch);
    socket.emit('data', Buffer.from('$3\r\n1-0\r\n$6\r\nQUEUED\r\n$0\r\n\r\n$3\r\n2-0\r\n'));

    const none = 'error Redis answered XADD with a string in place of an id';
    const id = (text: string): string => (wantsIds ? text : '');
    expect(comparable(await batch.promise)).toEqual([id('1-0'), none, none, id('2-0')]);
  });

  it.each([
    ['is closed by the peer', (socket: FakeSocket) => socket.emit('end'), 'Redis closed the connection'],
    ['fails', (socket: FakeSocket) => socket.emit('error', new Error('ECONNRESET')), 'ECONNRESET'],
    ['is destroyed', (socket: FakeSocket) => socket.destroy(), 'the connection was closed'],
    ['receives bytes that are no RESP2', (socket: FakeSocket) => socket.emit('data', Buffer.from('$1x\r\n')), 'digit'],
    ['receives RESP3', (socket: FakeSocket) => socket.emit('data', Buffer.from('%1\r\n')), 'type 37'],
    ['receives a bulk string that is too long', (s: FakeSocket) => s.emit('data', Buffer.from('$1\r\nabcd')), 'length'],
  ])('fails each waiting command once, in order, when its socket %s', async (_, strike, message) => {
    const { socket, connection } = connect();
    const failures: string[] = [];
    const replies = ['first', 'second'].map((name) => {
      const reply = new ValueReply('utf8');
      connection.send(PING, reply);
      return reply.promise.catch((error: Error) => failures.push(`${name}: ${error.name} ${error.message}`));
    });
    strike(socket);
    strike(socket);
    await Promise.all(replies);
    const late = new ValueReply('utf8');
    connection.send(PING, late);

    expect(failures).toEqual([expect.stringContaining(message), expect.stringContaining(message)]);
    expect(failures[0]).toMatch(/^first: ConnectionLost/);
    await expect(late.promise).rejects.toThrow(message);
    expect([connection.isOpen, socket.destroyed, connection.waiting]).toEqual([false, true, 0]);
  });

  it('ends when a reply comes that no command waits for', () => {
    const { socket, connection } = connect();
    socket.emit('data', Buffer.from('+OK\r\n'));
    expect(connection.isOpen).toBe(false);
  });

  it('skips the line break of a reply that was read before it took the socket over', async () => {
    const { socket, connection } = connect();
    const reply = new ValueReply('utf8');
    connection.send(PING, reply);
    socket.emit('data', Buffer.from('\n'));
    socket.emit('data', Buffer.from('+PONG\r\n'));

    expect(await reply.promise).toBe('PONG');
    const later = new ValueReply('utf8');
    connection.send(PING, later);
    socket.emit('data', Buffer.from('\n+PONG\r\n'));
    await expect(later.promise).rejects.toThrow('Redis sent type 10');
  });

  it('ends when a due reply does not come, and not while replies keep coming or none is due', async () => {
    jest.useFakeTimers();
    const { socket, connection } = connect(100);
    const first = new ValuesReply('utf8', 10);
    connection.send(PING, first);
    for (let count = 0; count < 10; count += 1) {
      await jest.advanceTimersByTimeAsync(99);
      socket.emit('data', Buffer.from('+OK\r\n'));
    }
    expect(await first.promise).toHaveLength(10);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(connection.isOpen).toBe(true);

    const silent = new ValueReply('utf8');
    connection.send(PING, silent);
    await Promise.all([
      expect(silent.promise).rejects.toThrow('no reply within 100 ms'),
      jest.advanceTimersByTimeAsync(200),
    ]);
  });

  it('reads what waits in the socket before it calls the peer silent, when the process itself stood still', async () => {
    const { socket, connection } = connect(50);
    const reply = new ValueReply('utf8');
    connection.send(PING, reply);
    // The reply is delivered in the poll phase that follows the late timer, before any setImmediate of that phase.
    setTimeout(() => setImmediate(() => socket.emit('data', Buffer.from('+PONG\r\n'))), 1);
    const blockedUntil = Date.now() + 120;
    await turn();
    setTimeout(() => {
      while (Date.now() < blockedUntil);
    }, 0);
    expect(await reply.promise).toBe('PONG');
  });

  it('reads ids of any length', async () => {
    const { socket, connection } = connect();
    const reply = new PageReply(streamKey, noSchema());
    connection.send(PING, reply);
    const ids = [
      '0-1',
      '999999999999-1',
      ...['7', '42', '999', '1000', '18446744073709551615'].map((n) => `1764406000123-${n}`),
    ];
    const entries = ids.map((text): RespValue => [Buffer.from(text), [Buffer.from('msg'), Buffer.from('x')]]);
    socket.emit('data', resp([[Buffer.from('key'), entries]]));
    expect((await reply.promise)[0]?.entries.map(({ id: found }) => found)).toEqual(ids);
  });

  it('says how many entries the page of a stream has when the first of them arrives', () => {
    const { socket, connection } = connect();
    const channel = new RespChannel(connection);
    const counts: number[] = [];
    void channel.pages([['XREADGROUP']], streamKey, {}, (count) => {
      counts.push(count);
      void channel.pages([['XREADGROUP']], streamKey).catch(() => undefined);
    });
    const entries = [1, 2, 3].map((time): RespValue => [
      Buffer.from(`${time}-0`),
      [Buffer.from('msg'), Buffer.from('x')],
    ]);
    const bytes = resp([[Buffer.from('key'), entries]]);
    const head = bytes.indexOf('1-0');
    socket.emit('data', bytes.subarray(0, head));
    expect(counts).toEqual([3]);
    // The next one was sent, and waits for its own reply.
    expect(connection.waiting).toBe(2);
    socket.emit('data', bytes.subarray(head));
    expect(counts).toEqual([3]);
    expect(connection.waiting).toBe(1);
  });

  describe('two reads in one write', () => {
    const page = (...ids: string[]): RespValue => [
      [Buffer.from('key'), ids.map((text): RespValue => [Buffer.from(text), [Buffer.from('msg'), Buffer.from('x')]])],
    ];
    const read = (onCount?: (entries: number) => void) => {
      const { socket, connection } = connect();
      const pages = new RespChannel(connection).pages(
        [
          ['XREAD', '1'],
          ['XREAD', '2'],
        ],
        streamKey,
        {},
        onCount,
      );
      const ids = pages.then((found) => found.map(({ entries }) => entries.map((each) => each.id).join()));
      return { socket, connection, ids };
    };

    it.each<[name: string, first: RespValue, second: RespValue, ids: string[]]>([
      ['both have found entries', page('1-0'), page('2-0', '3-0'), ['1-0,2-0,3-0']],
      ['the second repeats the entry of the first', page('1-0'), page('1-0', '2-0'), ['1-0,2-0']],
      ['the second has found nothing', page('1-0'), null, ['1-0']],
      ['the first has found nothing', null, page('2-0'), ['2-0']],
      ['neither has found anything', null, null, []],
      ['the second fails', page('1-0'), new Error('NOGROUP none'), ['1-0']],
    ])('are one page when %s', async (_, first, second, ids) => {
      const { socket, connection, ids: found } = read();
      expect(socket.written).toHaveLength(1);
      for (const byte of Buffer.concat([resp(first), resp(second)])) socket.emit('data', Buffer.from([byte]));
      expect(await found).toEqual(ids);
      expect(connection.waiting).toBe(0);
    });

    it.each<[name: string, first: RespValue, second: RespValue]>([
      ['the first fails', new Error('NOGROUP none'), page('2-0')],
      ['the second fails and the first has found nothing', null, new Error('NOGROUP none')],
      ['both fail', new Error('NOGROUP none'), new Error('ERR other')],
    ])('fail when %s', async (_, first, second) => {
      const { socket, ids } = read();
      socket.emit('data', Buffer.concat([resp(first), resp(second)]));
      await expect(ids).rejects.toThrow('NOGROUP none');
    });

    it('fail when the connection ends between the replies', async () => {
      const { socket, connection, ids } = read();
      socket.emit('data', resp(page('1-0')));
      connection.end(new Error('cut'));
      await expect(ids).rejects.toThrow('cut');
    });

    it('count the entries of both when the first of the second page arrives', async () => {
      const counts: number[] = [];
      const { socket, ids } = read((count) => counts.push(count));
      socket.emit('data', resp(page('1-0')));
      expect(counts).toEqual([]);
      const bytes = resp(page('2-0', '3-0'));
      socket.emit('data', bytes.subarray(0, bytes.indexOf('2-0')));
      expect(counts).toEqual([3]);
      socket.emit('data', bytes.subarray(bytes.indexOf('2-0')));
      await ids;
      expect(counts).toEqual([3]);
    });
  });

  it('does not say so for the page of several streams', async () => {
    const { socket, connection } = connect();
    const onCount = jest.fn();
    const found = new RespChannel(connection).pages([['XREADGROUP']], streamKey, {}, onCount);
    const page = (key: string): RespValue => [
      Buffer.from(key),
      [[Buffer.from('1-0'), [Buffer.from('msg'), Buffer.from('x')]]],
    ];
    socket.emit('data', resp([page('a'), page('b')]));
    expect(await found).toHaveLength(2);
    expect(onCount).not.toHaveBeenCalled();
  });

  it('does not join the chunks of a large payload again and again', async () => {
    const { socket, connection } = connect();
    const reply = new PageReply(streamKey, noSchema());
    connection.send(PING, reply);
    const payload = Buffer.alloc(64 * 1024 * 1024, 'x');
    const bytes = resp([[Buffer.from('key'), [[Buffer.from('1-0'), [Buffer.from('msg'), payload]]]]]);
    for (let at = 0; at < bytes.length; at += 16_384) socket.emit('data', bytes.subarray(at, at + 16_384));
    expect((await reply.promise)[0]?.entries[0]?.fields?.[1]?.equals(payload)).toBe(true);
  });

  it('looks at each byte of an entry once, however many fields the entry has', async () => {
    const { socket, connection } = connect();
    const reply = new PageReply(streamKey, noSchema());
    connection.send(PING, reply);
    const many = Array.from({ length: 80_000 }, (_, index) => Buffer.from(String(index % 10)));
    const bytes = resp([[Buffer.from('key'), [[Buffer.from('1-0'), many]]]]);
    const chunks = Math.ceil(bytes.length / 16_384);
    const bulkLength = jest.spyOn(RespReader.prototype, 'bulkLength');
    try {
      for (let at = 0; at < bytes.length; at += 16_384) socket.emit('data', bytes.subarray(at, at + 16_384));
      // Key, id and fields, and again what the end of a chunk has torn. A decoder that begins again takes chunks / 2 times as many.
      expect(bulkLength.mock.calls.length).toBeGreaterThan(many.length);
      expect(bulkLength.mock.calls.length).toBeLessThanOrEqual(many.length + 2 + chunks);
    } finally {
      bulkLength.mockRestore();
    }
    expect((await reply.promise)[0]?.entries[0]?.fields).toHaveLength(many.length);
  });

  it('gives a channel that asks the reply to its command, and not that to ASKING', async () => {
    const { socket, connection } = connect();
    const channel = new RespChannel(connection);
    const single = channel.command(['TYPE', 'k'], 'utf8', { isAsking: true });
    const requests = ['1', '2'].map((payload) => ({ id: '*', fields: ['msg', payload] }));
    const batch = channel.append({ key: 'k', limit: [], requests, wantsIds: true }, { isAsking: true });
    await until('all is written', () => socket.corks === 0);
    socket.emit('data', Buffer.from('+OK\r\n+stream\r\n+OK\r\n$3\r\n1-0\r\n+OK\r\n-MOVED 1 a:1\r\n'));

    expect(await single).toBe('stream');
    expect(comparable(await batch)).toEqual(['1-0', 'error MOVED 1 a:1']);
    expect(
      Buffer.concat(socket.written)
        .toString()
        .match(/ASKING/g),
    ).toHaveLength(3);
  });
});

describe('a proxy that answers XADD with something other than an id', () => {
  const appendThree = async (replies: string) => {
    const { socket, connection } = connect();
    const reply = new AppendReply(3, true);
    connection.send(PING, reply);
    for (const byte of replies) socket.emit('data', Buffer.from(byte));
    const outcomes = await reply.promise;
    return {
      isOpen: connection.isOpen,
      outcomes: outcomes?.map((outcome) => (typeof outcome === 'string' ? outcome : outcome.name)),
    };
  };

  it.each([
    ['null', '$-1\r\n'],
    ['an integer', ':1\r\n'],
    ['a simple string', '+OK\r\n'],
    ['an array', '*2\r\n:1\r\n$1\r\nx\r\n'],
    ['a null array', '*-1\r\n'],
  ])('%s concerns that entry only', async (_, odd) => {
    expect(await appendThree(`$3\r\n1-0\r\n${odd}$3\r\n3-0\r\n`)).toEqual({
      isOpen: true,
      outcomes: ['1-0', 'UnexpectedReply', '3-0'],
    });
  });

  it('a push ends the connection: what was read counts, its entry is known, and the rest is uncertain', async () => {
    expect(await appendThree('$3\r\n1-0\r\n>1\r\n+x\r\n')).toEqual({
      isOpen: false,
      outcomes: ['1-0', 'UnexpectedReply', 'ConnectionLost'],
    });
  });
});

describe('a connection after a silence', () => {
  const silent = async () => {
    const connected = connect();
    const monotonic = performance.now.bind(performance);
    jest.spyOn(performance, 'now').mockImplementation(() => monotonic() + 5_000);
    return connected;
  };
  afterEach(() => {
    jest.restoreAllMocks();
  });

  it('writes a turn later, and a command that met its end was never written', async () => {
    const { socket, connection } = await silent();
    const replies = [new ValueReply('utf8'), new ValueReply('utf8')];
    for (const reply of replies) connection.send(PING, reply);
    connection.flush();
    await Promise.resolve();
    expect(socket.corks).toBe(1);
    socket.emit('end');

    for (const { promise } of replies) await expect(promise).rejects.toMatchObject({ wasWritten: false });
    expect(connection.quietFor).toBeGreaterThanOrEqual(4_000);
  });

  it('has written a command before its end is noticed', async () => {
    const { socket, connection } = await silent();
    const reply = new ValueReply('utf8');
    connection.send(PING, reply);
    await turn();
    await turn();
    expect(socket.corks).toBe(0);
    socket.emit('end');

    await expect(reply.promise).rejects.toMatchObject({ wasWritten: true });
    expect(connection.quietFor).toBeGreaterThanOrEqual(4_000);
  });

  it('was not quiet when a command was answered, or waits for a second', async () => {
    const { socket, connection } = await silent();
    const replies = [new ValueReply('utf8'), new ValueReply('utf8')];
    for (const reply of replies) connection.send(PING, reply);
    socket.emit('data', Buffer.from('+PONG\r\n'));
    expect(connection.quietFor).toBe(0);
    connection.end(new Error('the end'));
    await Promise.allSettled(replies.map(({ promise }) => promise));
    expect(connection.quietFor).toBe(0);

    jest.restoreAllMocks();
    const other = await silent();
    const waiting = new ValueReply('utf8');
    other.connection.send(PING, waiting);
    expect(other.connection.quietFor).toBeGreaterThanOrEqual(4_000);
    const later = performance.now() + 2_000;
    jest.spyOn(performance, 'now').mockReturnValue(later + 10_000);
    expect(other.connection.quietFor).toBe(0);
    other.connection.end(new Error('the end'));
    await expect(waiting.promise).rejects.toThrow('the end');
  });

  it('tells how long it was quiet when it ends with nothing under way, unless its bytes were wrong', async () => {
    const { socket, connection } = await silent();
    socket.emit('end');
    expect(connection.quietFor).toBeGreaterThanOrEqual(4_000);

    jest.restoreAllMocks();
    const wrong = await silent();
    wrong.socket.emit('data', Buffer.from('?\r\n'));
    expect([wrong.connection.isOpen, wrong.connection.quietFor]).toEqual([false, 0]);
  });
});
