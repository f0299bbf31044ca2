import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import type { GroupMoved, MessagePage } from '../../packages/console/src/api.js';
import { ConsoleApp } from '../support/console-app.js';
import { RedisServer } from '../support/redis-server.js';

/** Entries of the large stream; `npm run test:console:size` has ten times as many. */
const ENTRIES = Number(process.env['ENTRIES'] ?? 1_000_000);
const STREAMS = 1_000;
const BATCH = 50_000;

const FILL = `
for i = tonumber(ARGV[1]) + 1, ARGV[1] + ARGV[2] do
  redis.call('XADD', KEYS[1], string.format('%d-0', i), 'msg', 'x')
end`;

/** The largest page that a command may ask for, in entries or keys. */
const LARGEST_PAGE = 500;

describe(`1,000 streams, and one of ${ENTRIES} entries`, () => {
  let server: RedisServer;
  let redis: Redis;
  beforeAll(async () => {
    server = await RedisServer.start({ args: ['--appendonly', 'no'] });
    redis = new Redis({ port: server.port });
    for (let from = 0; from < ENTRIES; from += BATCH)
      await redis.eval(FILL, 1, 'large', from, Math.min(BATCH, ENTRIES - from));
    await redis.xgroup('CREATE', 'large', 'workers', '0');
    const pipeline = redis.pipeline();
    for (let n = 1; n < STREAMS; n += 1) pipeline.xadd(`stream-${n}`, '*', 'msg', 'x');
    await pipeline.exec();
  }, 600_000);
  afterAll(async () => {
    await redis.quit();
    await server.stop();
  });

  it('are looked at with short commands only: every page is bounded, and nothing walks through all', async () => {
    const monitor = await redis.monitor();
    const long: string[][] = [];
    const used = new Set<string>();
    monitor.on('monitor', (_time: string, args: string[]) => {
      const name = (args[0] ?? '').toLowerCase();
      used.add(name);
      if (isLong(name, args)) long.push(args);
    });
    await using console = await ConsoleApp.start({ guards: [], connection: server.url, readOnly: false });
    await using list = await console.watch({ page: 'streams', sort: 'length', isDescending: true });
    const { rows, total } = await list.until('all streams are there', ({ isComplete }) => isComplete);
    expect([total, rows[0]?.stream, rows[0]?.length, rows.length]).toEqual([STREAMS, 'large', ENTRIES, 50]);
    await using stream = await console.watch({ page: 'stream', stream: 'large' });
    await stream.until('the stream is there', ({ lastId }) => lastId === `${ENTRIES}-0`);
    await using group = await console.watch({ page: 'group', stream: 'large', group: 'workers' });
    await group.until('the group is there', (update) => update.group !== null);
    const last = await console.json<MessagePage>('api/messages?stream=large&newest=true');
    expect(last.messages.map(({ id }) => id).slice(0, 2)).toEqual([`${ENTRIES}-0`, `${ENTRIES - 1}-0`]);
    const search = await console.json<MessagePage>('api/messages?stream=large&key=none');
    expect(search).toEqual({ messages: [], next: '5000-0/0', searched: 5_000 });
    const middle = await console.json<MessagePage>(`api/messages?stream=large&since=${ENTRIES / 2}-0`);
    expect(middle.messages[0]?.id).toBe(`${ENTRIES / 2}-0`);
    const body = { stream: 'large', group: 'workers', to: ENTRIES / 2, dryRun: true };
    const { moves } = await console.change<GroupMoved>('api/groups/position', body);
    const many = { count: 5_000, isMore: true };
    const end = `${ENTRIES}-0`;
    expect(moves).toEqual([{ key: 'large', shard: 0, from: '0-0', end, messages: many, skipped: many }]);
    monitor.disconnect();
    expect(long).toEqual([]);
    expect([...used]).toEqual(expect.arrayContaining(['scan', 'xinfo', 'xrange', 'xrevrange']));
  }, 60_000);
});

/** Whether a command may take longer the more there is. */
function isLong(name: string, args: readonly string[]): boolean {
  if (['keys', 'smembers', 'hgetall', 'xread', 'sort'].includes(name)) return true;
  if (!['scan', 'xrange', 'xrevrange', 'xpending'].includes(name)) return false;
  if (name === 'xpending') return !(Number(args[5]) <= LARGEST_PAGE || Number(args[7]) <= LARGEST_PAGE);
  const count = args.findIndex((argument) => argument.toLowerCase() === 'count');
  const isOne = name === 'xrange' && args[2] === args[3];
  return !isOne && (count === -1 || !(Number(args[count + 1]) <= LARGEST_PAGE));
}
