import { beforeEach, describe, expect, it } from '@jest/globals';

import { idempotencyKey } from '../../../lib/index.js';
import type { Inbox, RedisStreamer, StreamMessage } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { uniqueName } from '../../support/redis.js';
import { addRaw, useStreams } from '../../support/streams.js';

// Registered so that its servers and streamers end before useStreams checks for open connections.
const bench = new FaultBench();
const streams = useStreams();
let stream: string;
let streamer: RedisStreamer;
let inbox: Inbox;

beforeEach(async () => {
  stream = uniqueName('inbox');
  streamer = await streams.connect({ keyPrefix: 'app:' });
  inbox = streamer.createInbox('g');
});

async function someMessage(): Promise<StreamMessage> {
  await addRaw(streams.redis, `app:${stream}`, 'msg', 'order');
  const messages = await (await streamer.createManager()).range(stream, '-', '+');
  return messages.at(-1) as StreamMessage;
}

describe('an inbox', () => {
  it('runs the work of a message once for each group', async () => {
    const message = await someMessage();
    const done: string[] = [];
    const handle = (by: Inbox): Promise<boolean> => by.once(message, async () => void done.push('work'));

    expect([await handle(inbox), await handle(inbox), await handle(streamer.createInbox('g'))]).toEqual([
      true,
      false,
      false,
    ]);
    expect(await handle(streamer.createInbox('other'))).toBe(true);
    expect(done).toEqual(['work', 'work']);
  });

  it('runs commands together with the record, exactly once for any number of calls', async () => {
    const message = await someMessage();
    const add = (): Promise<boolean> =>
      inbox.once(message, async () => [
        ['INCRBY', 'balance', 5],
        ['RPUSH', 'log', Buffer.from('booked')],
      ]);

    // Both calls have found no record before either of them writes one.
    expect((await Promise.all([add(), add()])).sort()).toEqual([false, true]);
    expect(await add()).toBe(false);
    expect([await streams.redis.get('balance'), await streams.redis.lrange('log', 0, -1)]).toEqual(['5', ['booked']]);
  });

  it('records nothing when the work fails, or Redis refuses its commands', async () => {
    const message = await someMessage();
    await expect(inbox.once(message, () => Promise.reject(new Error('no stock')))).rejects.toThrow('no stock');
    const refused = inbox.once(message, async () => [['INCRBY', 'balance', 'much']]);
    await expect(refused).rejects.toMatchObject({ code: 'ERR_SERVER_REPLY' });
    expect(await inbox.once(message, async () => undefined)).toBe(true);
  });

  it.each([[[7]], [[[]]], [[['SET', {}]]], [[Array(7_001).fill('x')]]])(
    'refuses what are no commands, and records nothing (%#)',
    async (effects) => {
      const message = await someMessage();
      const once = inbox.once(message, async () => effects as never);
      await expect(once).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option: 'effects[0]' });
      expect(await inbox.once(message, async () => [])).toBe(true);
    },
  );

  it('takes any other result of the work for no commands', async () => {
    const message = await someMessage();
    expect(await inbox.once(message, async () => ({ accepted: 1 }) as never)).toBe(true);
    expect(await inbox.once(message, async () => undefined)).toBe(false);
  });

  it('the error of a command that Redis refuses does not blame the stream', async () => {
    const message = await someMessage();
    const list = uniqueName('list');
    await streams.redis.lpush(list, 'x');
    for (const effect of [
      ['INCR', list],
      ['XGROUP', 'SETID', `app:${stream}`, 'no-group', '0'],
    ] as const) {
      await expect(inbox.once(message, async () => [effect])).rejects.toMatchObject({
        code: 'ERR_SERVER_REPLY',
        message: expect.stringMatching(/^Redis refused a command of once\(\): .*(?:WRONGTYPE|NOGROUP)/),
      });
    }
  });

  it('keeps a record until its ttl has passed', async () => {
    const message = await someMessage();
    await streamer.createInbox('short', { ttl: 60_000 }).once(message, async () => undefined);
    const [key] = await streams.redis.keys(`app:nrs:{app:${stream}}:handled:app:${stream}:short:${message.id}`);
    expect(await streams.redis.pttl(key as string)).toBeGreaterThan(50_000);
    expect(() => streamer.createInbox('g', { ttl: 0 })).toThrow('ttl');
    expect(() => streamer.createInbox('')).toThrow('group');
    await expect(inbox.once({ id: '1-1' } as never, async () => undefined)).rejects.toThrow('message');
  });

  it('recognizes its own record when the reply was lost', async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const proxy = await bench.proxy(server);
    const admin = bench.admin(server.url);
    const cut = (await bench.streamer(proxy.url)).createInbox('g');
    const message = await someMessage();

    const booked = await cut.once(message, async () => {
      void proxy.tearReply(0, 'control');
      return [['INCR', 'balance']];
    });
    expect([booked, await admin.get('balance')]).toEqual([true, '1']);
  });

  it('works without scripts, except for commands', async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    await bench.admin(server.url).call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '+@all', '-@scripting');
    const plain = (await bench.streamer(server.url.replace('//', '//plain:secret@'))).createInbox('g');
    const [one, other] = [await someMessage(), await someMessage()];

    expect(await plain.once(one, async () => undefined)).toBe(true);
    expect(await plain.once(one, async () => undefined)).toBe(false);
    await expect(plain.once(other, async () => [['INCR', 'n']])).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_OPERATION',
    });
  });

  it('provides a key for records in an external database', async () => {
    const message = await someMessage();
    expect(idempotencyKey(message, 'g')).toBe(`g:${stream}:${message.id}`);
  });
});
