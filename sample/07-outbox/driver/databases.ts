import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { openDatabase } from '../database.js';

/** What the two services are given as `DATABASE_URL`. */
export interface Databases {
  readonly orders: string;
  readonly bookings: string;
  remove(): Promise<void>;
}

/** Two SQLite files in a folder of their own; in PostgreSQL, when its URL is given, one schema for both services. */
export async function createDatabases(url: string | undefined): Promise<Databases> {
  return url === undefined ? createFiles() : createSchema(url);
}

async function createFiles(): Promise<Databases> {
  const folder = await mkdtemp(join(tmpdir(), 'outbox-'));
  return {
    orders: join(folder, 'orders.db'),
    bookings: join(folder, 'bookings.db'),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

async function createSchema(url: string): Promise<Databases> {
  const schema = `outbox_sample_${randomBytes(4).toString('hex')}`;
  const database = openDatabase(url);
  await database.query(`CREATE SCHEMA ${schema}`);
  const own = new URL(url);
  own.searchParams.set('options', `-c search_path=${schema}`);
  return {
    orders: own.href,
    bookings: own.href,
    remove: async () => {
      await database.query(`DROP SCHEMA ${schema} CASCADE`);
      await database.onApplicationShutdown();
    },
  };
}
