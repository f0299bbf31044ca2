import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, it } from '@jest/globals';

import { Books, isInOrder } from '../../sample/07-outbox/driver/books.js';
import { Customers } from '../../sample/07-outbox/driver/customers.js';
import { createDatabases } from '../../sample/07-outbox/driver/databases.js';
import { Processes } from '../../sample/07-outbox/driver/processes.js';
import type { ProcessName } from '../../sample/07-outbox/driver/processes.js';
import { useCompiledSamples } from '../support/compiled-samples.js';
import { FaultBench } from '../support/fault-bench.js';
import { until } from '../support/until.js';

const VICTIMS = ['orders', 'relay-1', 'bookings', 'relay-2', 'redis'] as const;
type Victim = ProcessName | 'redis';
const ROUNDS = 2;
const KEY_PREFIX = 'outbox:';
/** For starting fourteen processes on two busy cores; of one wait, and of the test. */
const [WAIT_LIMIT, LIMIT] = [60_000, 180_000];

const bench = new FaultBench();
const folder = useCompiledSamples();

it(
  'with an outbox and an inbox there are as many bookings as orders, in order for each customer, whichever process is killed, Redis included',
  async () => {
    const server = await bench.server();
    const databases = await createDatabases(process.env['DATABASE_URL']);
    bench.endLater(() => databases.remove());
    const log: string[] = [];
    const processes = new Processes({
      base: pathToFileURL(join(folder, 'sample/07-outbox/')),
      redisUrl: server.url,
      keyPrefix: KEY_PREFIX,
      databases,
      onText: (line) => log.push(line),
    });
    bench.endLater(() => processes.stop());
    const admin = bench.admin(server.url);
    const books = new Books(databases, admin, KEY_PREFIX);
    bench.endLater(() => books.close());
    await processes.start();

    /** Orders, bookings or, for the relays and Redis, events. */
    const done = async (victim: Victim): Promise<number> => {
      const { orders, events, bookings } = await books.counts();
      if (victim === 'orders') return orders;
      return victim === 'bookings' ? bookings : events;
    };
    /** In the middle of its work, at a random moment. */
    const kill = async (victim: Victim): Promise<void> => {
      if (victim !== 'redis') await processes.ready(victim);
      const [before, more] = [await done(victim), randomInt(1, 100)];
      await until(`${victim} has done more`, async () => (await done(victim)) >= before + more, WAIT_LIMIT);
      await (victim === 'redis' ? server.restart() : processes.kill(victim));
      log.push(`${victim} was killed when it had done ${before} and ${more} more`);
    };

    let isOver = false;
    const customers = new Customers(() => processes.url());
    const shopping = customers.shop(() => isOver);
    try {
      for (let round = 0; round < ROUNDS; round += 1) for (const victim of VICTIMS) await kill(victim);
    } finally {
      isOver = true;
      await shopping;
    }
    const isDone = async (): Promise<boolean> => {
      const { orders, unsent, bookings } = await books.counts();
      return unsent === 0 && bookings >= orders;
    };
    await until('every order is booked', isDone, WAIT_LIMIT).catch((error: unknown) => log.push(String(error)));
    await processes.stop();

    const bookings = await books.bookings();
    const found = { ...(await books.counts()), isInOrder: isInOrder(bookings), log };
    const orders = customers.placed;
    // The log is on both sides so that a failure shows it.
    expect(found).toEqual({ orders, unsent: 0, events: orders, bookings: orders, isInOrder: true, log });
    expect(bookings.map(({ order }) => order).sort()).toEqual((await books.orders()).sort());
    expect(await admin.exists(`${KEY_PREFIX}orders.placed.dead`)).toBe(0);
  },
  LIMIT,
);
