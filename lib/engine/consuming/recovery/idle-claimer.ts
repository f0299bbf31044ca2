import { monotonicNow } from '../../../shared/clock.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import type { PendingCommands } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import { dropDeleted } from './deleted-entries.js';
import { DutyShare } from '../reading/duty-share.js';
import type { ReadDuty } from '../reading/read-duty.js';
import type { ReadPage } from '../reading/stream-reader.js';

export interface IdleClaimerOptions {
  readonly pending: Pick<PendingCommands, 'claimIdle' | 'ack'>;
  readonly group: string;
  readonly consumer: string;
  /** Milliseconds between two scans of the pending entries list. */
  readonly interval: number;
  /** How long an entry must have been idle. */
  readonly minIdle: number;
  readonly batchSize: number;
  /** Acknowledges at once what was claimed, because without a pending list (NOACK) nobody will do so later. */
  readonly noAck: boolean;
  readonly logger: RedisStreamsLogger;
}

/** Shortens an interval by up to a tenth, so that the consumers of a group do not all scan at the same moment. */
const SPREAD = 0.1;

/**
 * Takes over the entries of consumers that died. A scan follows the cursor to its end, over as many rounds of the read
 * loop as the credit needs; then it rests for the interval. What is in this process already is never taken again.
 */
export class IdleClaimer implements ReadDuty {
  readonly #options: IdleClaimerOptions;
  readonly #share = new DutyShare();
  readonly #cursors = new Map<Partition, string>();
  #todo: Partition[] = [];
  #nextScan = 0;

  constructor(options: IdleClaimerOptions) {
    this.#options = options;
  }

  dueIn(): number {
    return this.#todo.length > 0 ? 0 : Math.max(0, this.#nextScan - monotonicNow());
  }

  async run(streams: readonly Partition[], credit: number): Promise<ReadPage[]> {
    const places = this.#share.of(credit);
    if (places === 0) return [];
    if (this.#todo.length === 0) this.#todo = [...streams];
    const pages: ReadPage[] = [];
    // One page at a time: a failure of the next must not lose what was claimed already.
    for (let stream = this.#todo[0]; stream && pages.length === 0; stream = this.#todo[0]) {
      if (!streams.includes(stream)) {
        this.#finish(stream);
        continue;
      }
      const page = await this.#claimPage(stream, places);
      if (page.entries.length > 0) pages.push(page);
    }
    if (this.#todo.length === 0)
      this.#nextScan = monotonicNow() + this.#options.interval * (1 - SPREAD * Math.random());
    return pages;
  }

  async #claimPage(stream: Partition, room: number): Promise<ReadPage> {
    const { pending, group, consumer, minIdle, batchSize, noAck, logger } = this.#options;
    const { generation } = stream;
    const count = Math.min(room, batchSize);
    const after = this.#cursors.get(stream);
    const page = await pending.claimIdle({ streamKey: stream.key, group, consumer, minIdle, count, after });
    await dropDeleted(stream, page.deleted, group, pending, logger);
    const ids = noAck ? page.entries.map(({ id }) => id) : [];
    if (ids.length > 0) await pending.ack(stream.key, group, ids);
    if (page.next === undefined) this.#finish(stream);
    else this.#cursors.set(stream, page.next);
    // Some servers give new entries behind the claimed ones.
    const last = page.entries.at(-1)?.id ?? stream.position;
    if (compareEntryIds(last, stream.position) > 0) stream.position = last;
    const entries = page.entries.filter(({ id }) => !stream.held.has(id));
    return { stream, generation, entries };
  }

  #finish(stream: Partition): void {
    this.#cursors.delete(stream);
    this.#todo.shift();
  }
}
