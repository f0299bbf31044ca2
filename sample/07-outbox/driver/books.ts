import type { Redis } from 'ioredis';

import { openDatabase } from '../database.js';
import type { Database } from '../database.js';
import type { Databases } from './databases.js';

export interface Counts {
  readonly orders: number;
  /** Events of the outbox that are not marked as sent. */
  readonly unsent: number;
  /** Entries of the stream. */
  readonly events: number;
  readonly bookings: number;
}

export interface Booking {
  readonly order: string;
  readonly customer: string;
  readonly number: number;
}

/** Looks into the two databases and the stream, beside the services that use them. */
export class Books {
  readonly #orders: Database;
  readonly #bookings: Database;
  readonly #redis: Redis;
  readonly #stream: string;

  constructor(databases: Databases, redis: Redis, keyPrefix: string) {
    this.#orders = openDatabase(databases.orders);
    this.#bookings = openDatabase(databases.bookings);
    this.#redis = redis;
    this.#stream = `${keyPrefix}orders.placed`;
  }

  async counts(): Promise<Counts> {
    return {
      orders: await count(this.#orders, 'orders'),
      unsent: await count(this.#orders, 'outbox WHERE sent_at IS NULL'),
      events: await this.#redis.xlen(this.#stream),
      bookings: await count(this.#bookings, 'bookings'),
    };
  }

  async orders(): Promise<string[]> {
    return (await this.#orders.query<{ id: string }>('SELECT id FROM orders')).map(({ id }) => id);
  }

  /** In the order in which they were stored. */
  bookings(): Promise<Booking[]> {
    return this.#bookings.query('SELECT order_id AS "order", customer, number FROM bookings ORDER BY position');
  }

  async close(): Promise<void> {
    await Promise.all([this.#orders.onApplicationShutdown(), this.#bookings.onApplicationShutdown()]);
  }
}

/** Whether the orders of each customer were booked in the order in which they were placed, without a gap. */
export function isInOrder(bookings: readonly Booking[]): boolean {
  const last = new Map<string, number>();
  return bookings.every(({ customer, number }) => {
    const isNext = number === (last.get(customer) ?? 0) + 1;
    last.set(customer, number);
    return isNext;
  });
}

async function count(database: Database, rows: string): Promise<number> {
  const [row] = await database.query<{ count: number }>(`SELECT CAST(count(*) AS integer) AS count FROM ${rows}`);
  return row?.count ?? 0;
}
