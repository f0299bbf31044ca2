import type { PendingCommands } from '../redis/stream-commands.js';
import type { AssignedStream } from './assigned-stream.js';
import type { ReadDuty } from './read-loop.js';
import type { StreamMessage } from './stream-message.js';
import type { ReadPage } from './stream-reader.js';

interface WaitingEntry {
  readonly stream: AssignedStream;
  readonly id: string;
  readonly deliveryCount: number;
  readonly dueAt: number;
}

/**
 * Hands entries out again, on time, that wait in our own pending list. It only makes retries punctual: an entry's idle
 * time on the server is what makes it claimable, so a crash of this process forgets none.
 */
export class RetrySchedule implements ReadDuty {
  readonly #pending: Pick<PendingCommands, 'claimOwn' | 'ack'>;
  readonly #group: string;
  readonly #consumer: string;
  /** By due time, earliest first. */
  readonly #waiting: WaitingEntry[] = [];

  constructor(pending: Pick<PendingCommands, 'claimOwn' | 'ack'>, group: string, consumer: string) {
    this.#pending = pending;
    this.#group = group;
    this.#consumer = consumer;
  }

  /** True when the entry is due before all others, so that whoever waits has to wait anew. */
  add(stream: AssignedStream, message: StreamMessage, delay: number): boolean {
    const entry = { stream, id: message.id, deliveryCount: message.deliveryCount, dueAt: Date.now() + delay };
    let index = this.#waiting.length;
    while (index > 0 && (this.#waiting[index - 1] as WaitingEntry).dueAt > entry.dueAt) index -= 1;
    this.#waiting.splice(index, 0, entry);
    stream.held.set(entry.id, 'waiting');
    return index === 0;
  }

  dueIn(): number {
    const first = this.#waiting[0];
    return first ? Math.max(0, first.dueAt - Date.now()) : Infinity;
  }

  async run(_streams: readonly AssignedStream[], credit: number): Promise<ReadPage[]> {
    const now = Date.now();
    const isDue = this.#waiting.findIndex(({ dueAt }) => dueAt > now);
    const due = this.#waiting.slice(0, Math.min(credit, isDue === -1 ? this.#waiting.length : isDue));
    const pages: ReadPage[] = [];
    for (const [stream, entries] of groupByStream(due)) pages.push(await this.#claim(stream, entries));
    this.#waiting.splice(0, due.length);
    return pages;
  }

  /** Entries that are no longer ours have been taken, and will be handled, by another consumer. */
  async #claim(stream: AssignedStream, entries: readonly WaitingEntry[]): Promise<ReadPage> {
    const { generation } = stream;
    const page = await this.#pending.claimOwn(
      stream.key,
      this.#group,
      this.#consumer,
      entries.map(({ id, deliveryCount }) => ({ id, deliveryCount, consumer: this.#consumer, idle: 0 })),
      true,
    );
    for (const { id } of entries) stream.held.delete(id);
    if (page.deleted.length > 0) await this.#pending.ack(stream.key, this.#group, page.deleted);
    return { stream, generation, entries: page.entries };
  }
}

function groupByStream(entries: readonly WaitingEntry[]): Map<AssignedStream, WaitingEntry[]> {
  const byStream = new Map<AssignedStream, WaitingEntry[]>();
  for (const entry of entries) {
    const list = byStream.get(entry.stream);
    if (list) list.push(entry);
    else byStream.set(entry.stream, [entry]);
  }
  return byStream;
}
