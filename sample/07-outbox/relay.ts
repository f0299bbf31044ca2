import 'reflect-metadata';
import { setTimeout as pause } from 'node:timers/promises';
import { Injectable, Logger, Module } from '@nestjs/common';
import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { firstValueFrom } from 'rxjs';

import {
  ClientRedisStreams,
  InjectRedisStreams,
  RedisStreamsModule,
  RedisStreamsRecordBuilder,
} from '../../lib/index.js';
import { Database, openDatabase } from './database.js';
import { Outbox } from './outbox.js';
import type { OutboxRow } from './outbox.js';
import { EVENT_ID, keyPrefix, log } from './shop.js';

const BATCH = 100;
const POLL_INTERVAL = 100;
const PAUSE_AFTER_FAILURE = 1_000;
const HOUR = 3_600_000;
/** How long Redis recognizes an event that is sent again. Longer than a relay may be down or suspended. */
const RECOGNIZED_FOR = 24 * HOUR;
/** How long rows are kept after they were sent. */
const KEPT_FOR = 7 * 24 * HOUR;

/**
 * Sends the events of the outbox in their order. Several relays may run: Redis recognizes the events that another one has
 * sent, so each is stored once.
 */
@Injectable()
class Relay implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly #logger = new Logger(Relay.name);
  readonly #stop = new AbortController();
  #running: Promise<void> | undefined;
  #nextCleanUp = 0;

  constructor(
    private readonly outbox: Outbox,
    @InjectRedisStreams() private readonly client: ClientRedisStreams,
  ) {}

  onApplicationBootstrap(): void {
    this.#running = this.#run();
  }

  /** The module closes the client, and the database, after this. */
  async beforeApplicationShutdown(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const wait = await this.#round().catch((error: unknown) => {
        this.#logger.error(error);
        return PAUSE_AFTER_FAILURE;
      });
      await pause(wait, undefined, { signal }).catch(() => undefined);
    }
  }

  /** Resolves with the time to wait before the next one. */
  async #round(): Promise<number> {
    const rows = await this.outbox.unsent(BATCH);
    // One after the other: no event is in the stream before the one in front of it.
    for (const row of rows) await firstValueFrom(this.client.emit(row.pattern, recordOf(row)));
    // A relay that dies here sends the rows again when it restarts. Redis recognizes their ids.
    await this.outbox.markSent(rows);
    if (rows.length === BATCH) return 0;
    await this.#cleanUp();
    return POLL_INTERVAL;
  }

  async #cleanUp(): Promise<void> {
    if (Date.now() < this.#nextCleanUp) return;
    await this.outbox.removeSentBefore(Date.now() - KEPT_FOR);
    this.#nextCleanUp = Date.now() + HOUR;
  }
}

function recordOf({ id, key, payload }: OutboxRow) {
  return new RedisStreamsRecordBuilder<unknown>(JSON.parse(payload))
    .setKey(key)
    .setHeader(EVENT_ID, id)
    .setDeduplicationId(id, { within: RECOGNIZED_FOR })
    .build();
}

@Module({
  // An event that Redis does not confirm in this time is sent again in a later round.
  imports: [RedisStreamsModule.forRoot({ keyPrefix, timeout: 5_000 })],
  providers: [
    { provide: Database, useFactory: () => openDatabase(process.env['DATABASE_URL'] ?? 'orders.db') },
    Outbox,
    Relay,
  ],
})
class RelayModule {}

const app = await NestFactory.createApplicationContext(RelayModule, { logger: ['error', 'warn'] });
app.enableShutdownHooks();
log('ready');
