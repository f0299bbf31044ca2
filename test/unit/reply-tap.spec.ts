import { EventEmitter } from 'node:events';

import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { Command } from 'ioredis';
import type { Redis } from 'ioredis';

import { AppendBatch } from '../../lib/redis/wire/append-batch.js';
import { PageDecoder, noSchema } from '../../lib/redis/wire/page-decoder.js';
import { DecodedCommand, isTapped, tapReplies } from '../../lib/redis/wire/reply-tap.js';
import type { StreamPage } from '../../lib/redis/commands/stream-commands.js';
import { parsePages } from '../../lib/redis/commands/replies.js';

fc.configureGlobal({ seed: 20_261_126, numRuns: 300 });

type Value = Buffer | number | null | Error | Value[];

/** A value as RESP2 writes it. */
function resp(value: Value): Buffer {
  if (value === null) return Buffer.from('*-1\r\n');
  if (typeof value === 'number') return Buffer.from(`:${value}\r\n`);
  if (value instanceof Error) return Buffer.from(`-${value.message}\r\n`);
  if (Array.isArray(value)) return Buffer.concat([Buffer.from(`*${value.length}\r\n`), ...value.map(resp)]);
  return Buffer.concat([Buffer.from(`$${value.length}\r\n`), value, Buffer.from('\r\n')]);
}

class FakeSocket extends EventEmitter {
  destroyed: Error | undefined;

  destroy(error: Error): void {
    this.destroyed = error;
  }
}

/** A client that takes every reply it is given for one of the commands that wait, as ioredis does. */
function fakeClient(commands: readonly Command[]): { socket: FakeSocket; client: Redis; passed: Buffer[] } {
  const waiting = commands.map((command) => ({ command }));
  const passed: Buffer[] = [];
  const socket = new FakeSocket();
  socket.on('data', (chunk: Buffer) => {
    passed.push(Buffer.from(chunk));
    waiting.shift();
  });
  const client = { stream: socket, commandQueue: { peekFront: () => waiting[0] } } as unknown as Redis;
  tapReplies(client);
  return { socket, client, passed };
}

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
const plain: fc.Arbitrary<Value> = fc.oneof(
  buffer,
  fc.integer(),
  fc.constant(null),
  fc.constant(new Error('NOSCRIPT none')),
  fc.array(fc.oneof(buffer, fc.integer(), fc.array(buffer))),
);

/** What is asked, what comes back, and what is expected: bytes for ioredis, or a result of our own. */
interface Exchange {
  readonly command: Command;
  readonly reply: Buffer;
  readonly isForIoredis: boolean;
  readonly result: unknown;
}
const streamKey = (key: string): string => key;
const decoded = (): DecodedCommand<StreamPage[]> =>
  new DecodedCommand('xread', [], new PageDecoder(streamKey, noSchema()));
const exchange: fc.Arbitrary<Exchange> = fc.oneof(
  plain.map((value) => ({ command: new Command('ping'), reply: resp(value), isForIoredis: true, result: undefined })),
  fc.constantFrom(null, new Error('NOGROUP none')).map((value) => {
    return { command: decoded(), reply: resp(value), isForIoredis: true, result: [] };
  }),
  pages.map((value) => {
    return {
      command: decoded(),
      reply: resp(value as Value),
      isForIoredis: false,
      result: parsePages(value, streamKey),
    };
  }),
  fc.tuple(fc.array(outcome, { minLength: 1 }), fc.boolean()).map(([outcomes, wantsIds]) => ({
    command: new AppendBatch('key', Buffer.from('XADD …'), outcomes.length, wantsIds),
    reply: Buffer.concat(outcomes.map(resp)),
    isForIoredis: false,
    result: expectedOutcomes(outcomes, wantsIds),
  })),
);

function expectedOutcomes(outcomes: ReadonlyArray<Buffer | Error>, wantsIds: boolean): unknown {
  if (!wantsIds && !outcomes.some((each) => each instanceof Error)) return undefined;
  return outcomes.map((each) => (each instanceof Error ? each.message : wantsIds ? each.toString() : ''));
}

/** The pages, whose entries must have the layout that their fields say. */
function withoutLayouts(found: unknown): unknown {
  return (found as StreamPage[]).map(({ streamKey: key, entries }) => ({
    streamKey: key,
    entries: entries.map(({ layout, ...rest }) => {
      expect(layout?.names).toEqual(rest.fields?.filter((_, index) => index % 2 === 0));
      return rest;
    }),
  }));
}

const messagesOf = (found: unknown): unknown =>
  Array.isArray(found) ? found.map((each: unknown) => (each instanceof Error ? each.message : each)) : found;

/** Cuts the bytes at the given places. */
function chunksOf(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length].sort((a, b) => a - b);
  return places.slice(1).map((end, index) => bytes.subarray(places[index], end));
}

describe('a tapped connection', () => {
  it('gives each command its own replies, wherever the bytes are cut', () => {
    fc.assert(
      fc.property(fc.array(exchange, { minLength: 1, maxLength: 6 }), fc.array(fc.nat()), (exchanges, cuts) => {
        // Made anew: shrinking runs the same decoders again.
        const { socket, passed } = fakeClient(exchanges.map(({ command }) => command));
        const bytes = Buffer.concat(exchanges.map(({ reply }) => reply));
        for (const chunk of chunksOf(bytes, cuts)) socket.emit('data', chunk);

        expect(socket.destroyed).toBeUndefined();
        const standIn = Buffer.from('*0\r\n');
        expect(passed).toEqual(exchanges.map(({ reply, isForIoredis }) => (isForIoredis ? reply : standIn)));
        for (const { command, result } of exchanges) {
          if (!(command instanceof DecodedCommand)) continue;
          const found: unknown = command.decoder.result((error) => error);
          expect(command.decoder instanceof PageDecoder ? withoutLayouts(found) : messagesOf(found)).toEqual(result);
        }
      }),
      { endOnFailure: true },
    );
  });

  it('is given up when it brings what is no reply', () => {
    const { socket } = fakeClient([decoded()]);
    socket.emit('data', Buffer.from('*1\r\n*2\r\n$1x\r\n'));
    expect(socket.destroyed?.message).toContain('where a number should be');
  });

  it('does not join the chunks of a large payload again and again', () => {
    const command = decoded();
    const { socket, passed } = fakeClient([command]);
    const payload = Buffer.alloc(64 * 1024 * 1024, 'x');
    const reply = resp([[Buffer.from('key'), [[Buffer.from('1-0'), [Buffer.from('msg'), payload]]]]]);
    for (let at = 0; at < reply.length; at += 16_384) socket.emit('data', reply.subarray(at, at + 16_384));
    expect(passed).toHaveLength(1);
    expect(command.decoder.result((error) => error)[0]?.entries[0]?.fields?.[1]?.equals(payload)).toBe(true);
  });

  it('leaves a client alone that keeps its commands elsewhere', () => {
    const client = { stream: new FakeSocket(), commandQueue: undefined } as unknown as Redis;
    tapReplies(client);
    expect(isTapped(client)).toBe(false);
  });
});
