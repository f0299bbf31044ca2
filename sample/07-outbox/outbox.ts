import { randomUUID } from 'node:crypto';
import { Injectable } from '@nestjs/common';

import { Database } from './database.js';
import type { Query } from './database.js';
import type { Events } from './shop.js';

export interface OutboxRow {
  readonly id: string;
  readonly pattern: string;
  readonly key: string;
  readonly payload: string;
}

/** The events that a service has to send, in a table of its own database. */
@Injectable()
export class Outbox {
  constructor(private readonly database: Database) {}

  async createTable(): Promise<void> {
    await this.database.query(`CREATE TABLE IF NOT EXISTS outbox (
      position ${this.database.rowNumber},
      id text NOT NULL UNIQUE,
      pattern text NOT NULL,
      key text NOT NULL,
      payload text NOT NULL,
      sent_at bigint
    )`);
    // Only rows that are not sent: the next ones are found at once, however many have been sent.
    await this.database.query('CREATE INDEX IF NOT EXISTS outbox_unsent ON outbox (position) WHERE sent_at IS NULL');
  }

  /** @param query of the transaction that makes the change which the event reports */
  async add<K extends keyof Events>(query: Query, pattern: K, key: string, payload: Events[K]): Promise<void> {
    await query(
      'INSERT INTO outbox (id, pattern, key, payload) VALUES ($1, $2, $3, $4)',
      // Not the position: a number may be used again after the table was emptied or restored.
      randomUUID(),
      pattern,
      key,
      JSON.stringify(payload),
    );
  }

  unsent(limit: number): Promise<OutboxRow[]> {
    return this.database.query<OutboxRow>(
      'SELECT id, pattern, key, payload FROM outbox WHERE sent_at IS NULL ORDER BY position LIMIT $1',
      limit,
    );
  }

  /**
   * Marks these rows, and not all up to the last one: in PostgreSQL a row may be committed after one with a higher position.
   */
  async markSent(rows: readonly OutboxRow[]): Promise<void> {
    if (rows.length === 0) return;
    const ids = rows.map((_, index) => `$${index + 2}`).join(', ');
    await this.database.query(
      `UPDATE outbox SET sent_at = $1 WHERE id IN (${ids})`,
      Date.now(),
      ...rows.map(({ id }) => id),
    );
  }

  async removeSentBefore(time: number): Promise<void> {
    await this.database.query('DELETE FROM outbox WHERE sent_at < $1', time);
  }
}
