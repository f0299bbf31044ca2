import { Redis } from 'ioredis';

import { until } from '../../test/support/until.js';
import { Books, isInOrder } from './driver/books.js';
import { Customers } from './driver/customers.js';
import { createDatabases } from './driver/databases.js';
import { Processes } from './driver/processes.js';

const ORDERS = 400;
/** Which process is killed after how many orders. */
const KILLS = { 80: 'relay-1', 160: 'bookings', 240: 'orders', 320: 'relay-2' } as const;
/** Of each wait, on a busy machine. */
const LIMIT = 60_000;
const INTERRUPTED = 130;

const redisUrl = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379';
const keyPrefix = process.env['KEY_PREFIX'] ?? 'outbox:';

const databases = await createDatabases(process.env['DATABASE_URL']);
const processes = new Processes({ base: import.meta.url, redisUrl, keyPrefix, databases, onText: console.log });
const redis = new Redis(redisUrl);
const books = new Books(databases, redis, keyPrefix);
const customers = new Customers(() => processes.url());

let isInterrupted = false;
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => (isInterrupted = true));

async function killEachOnce(): Promise<void> {
  for (const [orders, name] of Object.entries(KILLS)) {
    await until(`${orders} orders are placed`, () => isInterrupted || customers.placed >= Number(orders), LIMIT);
    if (isInterrupted) return;
    await processes.kill(name);
    console.log(`${name} was killed after ${orders} orders, and is restarted`);
  }
}

async function areBooked(): Promise<boolean> {
  const { orders, bookings } = await books.counts();
  return isInterrupted || bookings >= orders;
}

async function conclude(): Promise<void> {
  if (isInterrupted) {
    process.exitCode = INTERRUPTED;
    return;
  }
  const { orders, events, bookings } = await books.counts();
  const isOrdered = isInOrder(await books.bookings());
  console.log(`${orders} orders, ${events} events, ${bookings} bookings, ${isOrdered ? 'in order' : 'not in order'}`);
  if (events !== orders || bookings !== orders || !isOrdered) process.exitCode = 1;
}

try {
  await processes.start();
  await Promise.all([customers.shop(() => isInterrupted || customers.placed >= ORDERS), killEachOnce()]);
  await until('all orders are booked', areBooked, LIMIT);
  await conclude();
} finally {
  await processes.stop();
  await books.close();
  await databases.remove();
  redis.disconnect();
}
