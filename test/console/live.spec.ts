import { describe, expect, it } from '@jest/globals';
import { RedisStreamsModule } from '../../lib/index.js';
import { ADAPTERS, CONSOLE_VERSION, ConsoleApp } from '../support/console-app.js';
import { useStreams } from '../support/streams.js';

const streams = useStreams();

describe.each(ADAPTERS)('the console on %s', (adapter) => {
  it('shows the streams of the application, again and again, with groups, lag and dead letters', async () => {
    const { redis, url } = streams;
    await redis.xadd('orders', '1-0', 'msg', 'x');
    await redis.xgroup('CREATE', 'orders', 'workers', '0');
    await redis.xadd('orders.dead', '1-0', 'msg', 'x');
    const module = RedisStreamsModule.forRoot({ connection: url });
    await using console = await ConsoleApp.start({ guards: [] }, { adapter, imports: [module] });
    expect(await console.json('api/session')).toEqual({
      version: CONSOLE_VERSION,
      readOnly: true,
      showPayloads: false,
      user: null,
    });
    await using viewer = await console.watch({ page: 'streams' });
    const update = await viewer.until('the streams are there', () => true);
    expect(update).toMatchObject({ matching: 1, total: 1, isComplete: true });
    expect(update.rows).toMatchObject([
      { stream: 'orders', length: 1, deadLetters: 1, groups: [{ name: 'workers', pending: 0, consumers: 0 }] },
    ]);
    await redis.xadd('orders', '*', 'msg', 'x');
    await viewer.until('the entry is there', ({ rows }) => rows[0]?.length === 2);
  });
});
