import { monotonicNow } from '../../../shared/clock.js';
import { compareEntryIds } from '../../../redis/commands/entry-id.js';
import type { StreamEntry } from '../../../redis/commands/stream-commands.js';
import type { Partition } from '../partition.js';
import { FairShare } from '../reading/periodic-task.js';
import type { PeriodicTask } from '../reading/periodic-task.js';
import type { ReadPage } from '../reading/stream-reader.js';

export interface IdleClaimRequest {
  /** Idle time from which on an entry is claimed, in milliseconds. */
  readonly minIdle: number;
  readonly count: number;
  /** `next` of the page before. */
  readonly after: string | undefined;
}

export interface ClaimedEntries {
  readonly entries: readonly StreamEntry[];
  /** Where the next page continues; undefined at the end. */
  readonly next: string | undefined;
}

/** How idle entries are claimed. */
export interface IdleClaims {
  claimIdle(partition: Partition, request: IdleClaimRequest): Promise<ClaimedEntries>;
}

export interface IdleClaimerOptions {
  readonly claims: IdleClaims;
  /** Milliseconds between two scans of the pending entries list. */
  readonly interval: number;
  /** Idle time from which on an entry is claimed, in milliseconds. */
  readonly minIdle: number;
}

/** Pages of one round in which nothing is idle. A long list of other consumers' entries must not keep the loop from reading. */
const EMPTY_PAGES = 16;
/** Milliseconds of a round after which no other page is asked for. */
const EMPTY_TIME = 1;
/** Most entries of a page after one in which nothing was idle: the server may look at ten times as many. */
const COUNT_AFTER_EMPTY = 50;
/** Most partitions that are asked at once. */
const AT_ONCE = 16;
/** Fewer are asked where there are not so many places for each. */
const PLACES_OF_EACH = 8;

/** Shortens an interval by up to a tenth, so that the consumers of a group do not all scan at the same moment. */
const SPREAD = 0.1;

/**
 * Takes over the entries of consumers that died. A scan follows its cursor to the end of the pending entries list, over as
 * many rounds of the read loop as the credit requires; then it rests for the interval. It never returns an entry that this
 * process already owns.
 */
export class IdleClaimer implements PeriodicTask {
  readonly #options: IdleClaimerOptions;
  readonly #share = new FairShare();
  readonly #cursors = new Map<Partition, string>();
  #todo: Partition[] = [];
  #wasEmpty = false;
  #nextScan = 0;

  constructor(options: IdleClaimerOptions) {
    this.#options = options;
  }

  dueIn(): number {
    return this.#todo.length > 0 ? 0 : Math.max(0, this.#nextScan - monotonicNow());
  }

  async run(all: readonly Partition[], credit: number, batchSize: number): Promise<ReadPage[]> {
    // What was given back is idle: in an owned shard it must not come before what else a former owner has left.
    const partitions = all.filter(({ lease, isTakenOver }) => !lease || isTakenOver);
    if (partitions.length === 0) return [];
    const places = this.#share.of(credit);
    if (places === 0) return [];
    if (this.#todo.length === 0) this.#todo = [...partitions];
    const readable = new Set(partitions);
    this.#todo = this.#todo.filter((partition) => readable.has(partition));
    let found: ReadPage[] = [];
    const end = monotonicNow() + EMPTY_TIME;
    for (let looks = 0; looks < EMPTY_PAGES && found.length === 0 && this.#todo.length > 0; looks += 1) {
      const most = this.#wasEmpty ? Math.min(COUNT_AFTER_EMPTY, batchSize) : batchSize;
      found = await this.#claimPages(places, most);
      this.#wasEmpty = found.length === 0;
      if (monotonicNow() > end) break;
    }
    if (this.#todo.length === 0)
      this.#nextScan = monotonicNow() + this.#options.interval * (1 - SPREAD * Math.random());
    return found;
  }

  /** One page of each of the next partitions. */
  async #claimPages(places: number, most: number): Promise<ReadPage[]> {
    const next = this.#todo.slice(0, Math.max(1, Math.min(AT_ONCE, Math.floor(places / PLACES_OF_EACH))));
    const count = Math.min(most, Math.floor(places / next.length));
    const outcomes = await Promise.allSettled(next.map((partition) => this.#claimPage(partition, count)));
    const pages = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    const found = pages.filter(({ entries }) => entries.length > 0);
    // A failure must not lose entries that are claimed already; the partition is asked again, and fails again.
    for (const outcome of outcomes) if (outcome.status === 'rejected' && found.length === 0) throw outcome.reason;
    return found;
  }

  async #claimPage(partition: Partition, count: number): Promise<ReadPage> {
    const { claims, minIdle } = this.#options;
    const { generation } = partition;
    const after = this.#cursors.get(partition);
    // Set again only by a page that came: a cursor that the server does not accept must not be sent without end.
    this.#cursors.delete(partition);
    const page = await claims.claimIdle(partition, { minIdle, count, after });
    if (page.next === undefined) this.#finish(partition);
    else this.#cursors.set(partition, page.next);
    // Some servers return new entries after the claimed ones.
    const last = page.entries.at(-1)?.id ?? partition.position;
    if (compareEntryIds(last, partition.position) > 0) partition.position = last;
    const entries = page.entries.filter(({ id }) => !partition.owned.has(id));
    return { partition, generation, entries };
  }

  #finish(partition: Partition): void {
    this.#cursors.delete(partition);
    this.#todo = this.#todo.filter((each) => each !== partition);
  }
}
