import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { KeyHashSharder, RedisStreamsRecordBuilder } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { languagePrograms } from '../support/languages.js';
import { useNest } from '../support/nest.js';
import { usePrograms } from '../support/programs.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

/** For programs that start while both cores are busy. */
const LIMIT = 120_000;
const PATIENCE = 60_000;
const GROUP_OF_PROGRAMS = 'billing';

const folder = mkdtempSync(join(tmpdir(), 'languages-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const { ready, absent } = languagePrograms(folder);

const start = usePrograms();
const nest = useNest();

function run([command, ...args]: readonly [string, ...string[]], env: NodeJS.ProcessEnv = {}) {
  return start(command, args, { env: { ...process.env, REDIS_URL: nest.url, ...env } });
}

it('the page has the shards that KeyHashSharder chooses', () => {
  const page = readFileSync(fileURLToPath(new URL('../../docs/other-languages.md', import.meta.url)), 'utf8');
  const rows = [...page.matchAll(/^\| `(\S+)`\s+\| (\d+)\s+\| (\d+)\s+\| (\d+)\s+\|$/gm)];

  expect(rows.length).toBeGreaterThan(2);
  for (const [, key = '', ...shards] of rows) {
    const chosen = [3, 12, 64].map((count) => String(new KeyHashSharder(count).shardOf('orders', key)));
    expect(shards).toEqual(chosen);
  }
});

// Without it, a run that has tested nothing would look like one that has.
if (absent.length > 0) {
  it(`programs in ${absent.join(' and ')} are not tested here: the language or its Redis client is absent`, () => {
    expect(absent).not.toEqual([]);
  });
}

describe.each(ready)('the programs of the page in $language', ({ producer, consumer }) => {
  it(
    'handle events and requests of Nest, and their dead letters are listed and put back',
    async () => {
      const program = run(consumer);
      await program.untilPrinted('ready');
      const client = nest.client();
      const record = new RedisStreamsRecordBuilder({ id: 7, item: 'tea' }).setKey('ann').build();
      const expired = new RedisStreamsRecordBuilder({ id: 8, item: 'old' }).setExpiresAt(new Date(1_000)).build();
      await firstValueFrom(client.emit('orders', expired));
      await firstValueFrom(client.emit('orders', record));
      await program.untilPrinted('handled');
      expect(program.output).toMatch(/handled .*7.*tea.* ann/);
      expect(program.output).not.toContain('old');
      expect(await firstValueFrom(client.send('price', { amount: 3 }))).toBe(15);
      await expect(firstValueFrom(client.send('price', 'no object'))).rejects.toMatchObject({ status: 'error' });

      await addRaw(nest.redis, 'orders', 'msg', 'no JSON', 'h:source', 'elsewhere');
      await until('it is dead', async () => (await nest.redis.xlen('orders.dead')) === 1, PATIENCE);
      await nest.untilSettled('orders', GROUP_OF_PROGRAMS);
      const manager = await (await nest.connect()).createManager();
      const [letter] = await manager.deadLetters('orders');
      expect(letter).toMatchObject({
        origin: { group: GROUP_OF_PROGRAMS },
        deliveryCount: 1,
        reason: 'failed 1 times',
        headers: { source: 'elsewhere' },
      });
      expect(await manager.redrive('orders.dead')).toEqual({ redriven: 1, skipped: 0 });
    },
    LIMIT,
  );

  it(
    'claim what a dead consumer of the group has left pending',
    async () => {
      await nest.redis.xgroup('CREATE', 'orders', GROUP_OF_PROGRAMS, '0', 'MKSTREAM');
      await addRaw(nest.redis, 'orders', 'msg', '{"id":9,"item":"left"}');
      await nest.redis.xreadgroup('GROUP', GROUP_OF_PROGRAMS, 'dead', 'COUNT', 1, 'STREAMS', 'orders', '>');

      const program = run(consumer, { CLAIM_IDLE: '200' });
      await program.untilPrinted('left');
      await nest.untilSettled('orders', GROUP_OF_PROGRAMS);
    },
    LIMIT,
  );

  it(
    'send events, events for a shard, delayed events and requests to Nest',
    async () => {
      const seen: unknown[] = [];
      const order = onEvent('orders', (data: object, context) =>
        seen.push({ ...data, from: context.getHeader('source') }),
      );
      const booking = onEvent('bookings', (data: object, context) => seen.push({ ...data, shard: context.getShard() }));
      const reminder = onEvent('reminders', (data: object) => seen.push(data));
      const price = onRequest('price', ({ amount }: { amount: number }) => amount * 5);
      await nest.serve([order, reminder, price]);
      await nest.serve(booking, { shards: 12 });

      const program = run(producer);
      expect(await program.ended).toBe(0);
      await until('all are handled', () => seen.length === 3, PATIENCE);
      const shard = new KeyHashSharder(12).shardOf('bookings', 'ann');
      expect(program.output).toMatch(new RegExp(`stored \\S+ ${shard}\\n`));
      expect(program.output).toContain('answer [15]');
      expect(seen).toContainEqual({ account: 'ann', shard });
      expect(seen).toContainEqual({ order: 1 });
      expect(seen).toContainEqual({ id: 1, item: 'tea', from: expect.stringMatching(/^(?:python|go)$/) });
    },
    LIMIT,
  );
});
