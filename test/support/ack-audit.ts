import { expect } from '@jest/globals';
import type { AcknowledgingConsumer, StreamMessage, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { drain } from './fault-bench.js';
import { Ledger } from './ledger.js';
import type { Load } from './load.js';
import type { Counts } from './tally-report.js';
import { until } from './until.js';

export const GROUP = 'audited';

/** Compares the messages that the consumers of one group acknowledged with the pending entries on the server. */
export class AckAudit {
  readonly ledger = new Ledger();
  /** Messages that were handled and must stay unacknowledged. */
  readonly kept = new Set<string>();
  readonly stream: string;
  readonly #admin: RedisClient;

  constructor(admin: RedisClient, stream: string) {
    this.#admin = admin;
    this.stream = stream;
  }

  async send(producer: StreamProducer, n: number): Promise<void> {
    await this.ledger.sent(String(n), producer.send(String(n)));
  }

  /**
   * Records a handled message; returns whether the caller must acknowledge it, which it must for six of seven messages.
   */
  handle(message: StreamMessage): boolean {
    this.ledger.handledMessage(message);
    if (Number(message.text()) % 7 !== 3) return true;
    this.kept.add(message.id);
    return false;
  }

  /** Handles all messages of a consumer until the consumer ends. */
  work(consumer: AcknowledgingConsumer): void {
    void drain(consumer, (message) => void (this.handle(message) && consumer.ack(message)));
  }

  async pendingIds(): Promise<string[]> {
    const rows = (await this.#admin.xpending(this.stream, GROUP, '-', '+', 10_000)) as Array<[string]>;
    return rows.map(([id]) => id);
  }

  /** Returns those of the given ids that are pending. */
  async pendingOf(ids: readonly string[]): Promise<string[]> {
    const replies = await Promise.all(ids.map((id) => this.#admin.xpending(this.stream, GROUP, id, id, 1)));
    return ids.filter((_, index) => (replies[index] as unknown[]).length > 0);
  }

  async untilHandled(): Promise<void> {
    await until('all confirmed messages are handled', () => this.ledger.account().lost.length === 0);
  }

  /** Stops the load and asserts that no message is lost and that exactly the kept messages are pending. */
  async expectSettled(load: Load): Promise<Omit<Counts, 'faults'>> {
    await load.stop();
    const { lost } = await this.ledger.settled();
    expectAllHandled(this.ledger, lost);
    await until('all acks have arrived', async () => (await this.pendingIds()).length <= this.kept.size);
    expectSame(new Set(await this.pendingIds()), this.kept);
    const { confirmed, handled, repeated } = this.ledger;
    return { sends: confirmed, handled, duplicates: repeated, lost: lost.length };
  }
}

function expectAllHandled({ failures }: Ledger, lost: readonly string[]): void {
  expect({ lost, failures: failures.size }).toEqual({ lost: [], failures: 0 });
}

function expectSame(pending: ReadonlySet<string>, kept: ReadonlySet<string>): void {
  expect(pending).toEqual(kept);
}
