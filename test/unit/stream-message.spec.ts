import { describe, expect, it } from '@jest/globals';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';

const shard = { streamKey: 'orders', shardId: 0, key: 'orders' };

/** A message whose fields are parts of a page of that many bytes. */
function messageOf(fields: readonly string[], pageSize: number): StreamMessage {
  const page = Buffer.allocUnsafeSlow(pageSize);
  let at = 0;
  const parts = fields.map((field) => page.subarray(at, (at += page.write(field, at))));
  return StreamMessage.create(shard, { id: '1-0', fields: parts, deliveryCount: 2 }, DEFAULTS.streamer);
}

describe('a message that waits', () => {
  const FIELDS = ['msg', 'größer', 'h:key', 'customer-7', 'extra', '', 'extra', 'last'];
  const SIZE = Buffer.byteLength(FIELDS.join(''));

  it('keeps its fields, and no longer the page in which they came', () => {
    const message = messageOf(FIELDS, 64 * 1024);
    const before = { ...message.toJSON(), fields: [...message.fields] };
    StreamMessage.detach(message);

    expect({ ...message.toJSON(), fields: [...message.fields] }).toEqual(before);
    const kept = [message.payload, ...message.fields.values(), ...message.storedFields];
    for (const part of kept) expect(part.buffer.byteLength).toBe(SIZE);
    expect(message.storedFields.map(String)).toEqual(FIELDS);
  });

  it('is not copied when the bytes in which it came are not much more than its own', () => {
    const message = messageOf(FIELDS, 2 * SIZE);
    const { payload } = message;
    StreamMessage.detach(message);
    expect(message.payload).toBe(payload);
  });

  it('may have no fields at all', () => {
    const message = StreamMessage.create(shard, { id: '1-0', fields: null, deliveryCount: 1 }, DEFAULTS.streamer);
    StreamMessage.detach(message);
    expect([message.payload.length, message.hasPayload]).toEqual([0, false]);
  });
});

describe('a message', () => {
  const message = (payload: Buffer): StreamMessage =>
    StreamMessage.create(
      { streamKey: 'orders', shardId: 3, key: 'orders:3' },
      { id: '7-2', fields: [Buffer.from('msg'), payload], deliveryCount: 1 },
      DEFAULTS.streamer,
    );

  it('is identified by stream, shard and sequence, as with sea-streamer', () => {
    expect(message(Buffer.from('x')).identifier).toEqual({ streamKey: 'orders', shardId: 3, sequence: 458_754n });
  });

  it('has text in which what is not UTF-8 is replaced, or refused with fatal', () => {
    const broken = message(Buffer.from([0x61, 0xc3, 0x28]));
    expect(broken.text()).toBe('a\ufffd(');
    expect(() => broken.text({ fatal: true })).toThrow(expect.objectContaining({ code: 'ERR_PAYLOAD_DECODE' }));
    expect(message(Buffer.from('größer\ufeff')).text({ fatal: true })).toBe('größer\ufeff');
  });
});
