import { setImmediate as nextTurn } from 'node:timers/promises';

import { withResolvers } from '../../../shared/deferred.js';
import { pause } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import type { EntryBuffer, ReadBuffer, ReadUse } from './read-loop-options.js';

/** A buffer whose places can be kept for a read that is under way. */
export interface ReservableBuffer extends EntryBuffer {
  readonly capacity: number;
  /** Returns the function that gives the places back; a second call does nothing. */
  reserve(places: number, isForLong?: boolean): () => void;
}

/** A read that may block asks for an even share, divided by this. */
const QUIET_DIVISOR = 4;
/** Part of the capacity that reads which may block keep together at most; the others keep theirs for a moment only. */
const BLOCKED_FRACTION = 0.5;
/** Milliseconds between two reads of a loop that may not block and finds nothing. */
const POLL_INTERVAL = 100;
/** Milliseconds after which a read that does not block, and has not come back, keeps its places no longer. */
const RESERVATION_LIMIT = 5_000;

/**
 * Divides the free places of one buffer among the read loops of a consumer. Each read reserves what it asks for until it
 * comes back, so no two count on the same places.
 *
 * A loop that found as much as it asked for, by a read or by a task, takes a whole batch the next time, and does not block: large
 * pages cost less, and the loops take turns. A quiet loop asks for a few entries, and blocks while reads that block keep less than
 * half of the buffer. Past that, which takes more streams than half of the places, it looks every 100 ms instead. A quiet loop with
 * a watch needs places only when new entries were announced: it asks for more places, so that it reads once and finds the end.
 *
 * Loops that wait for places get them in the order in which they came, each turn of the event loop as many as there are places
 * for: if all were woken, each place would cost a look of every loop. The places of a turn are kept for its loop, which may need
 * some steps before it reads, until the turn is over.
 *
 * A reservation of a read that should come back at once lapses after some seconds, because a node that stands still must
 * not keep the places of loops that read from others; should it come back later, it may bring a batch more than there are
 * places.
 */
export class BufferShares {
  readonly #loops: () => number;
  /** Places that reads which may block keep. */
  #blocked = 0;
  /** Loops that wait for places, the first one first. */
  #waiting: WaitingLoop[] = [];
  #isServing = false;

  /** @param loops number of loops that share the buffer */
  constructor(loops: () => number) {
    this.#loops = loops;
  }

  /** @param hasWatch the loop reads when new entries were announced */
  create(buffer: ReservableBuffer, hasWatch = false): ReadBuffer {
    return new BufferShare(buffer, this, hasWatch);
  }

  get isShared(): boolean {
    return this.#loops() > 1;
  }

  /** Places for a read that may block. */
  quietShare({ credit }: EntryBuffer): number {
    return Math.max(1, Math.floor(credit / (QUIET_DIVISOR * this.#loops())));
  }

  /** Places for a read that follows an announcement: nearly always more than it finds. */
  watchedShare({ credit, batchSize }: EntryBuffer): number {
    return Math.min(batchSize, Math.max(2, Math.floor(credit / QUIET_DIVISOR)));
  }

  /** Resolves when it is the turn of a loop and there are places, or when the buffer has become starved. */
  async room(buffer: ReservableBuffer, share: BufferShare): Promise<void> {
    if (this.#waiting.length === 0 && !this.#isServing && buffer.hasRoom) return;
    const { promise, resolve } = withResolvers<void>();
    this.#waiting.push({ share, wasStarved: buffer.isStarved, resolve });
    if (!this.#isServing) void this.#serve(buffer);
    await promise;
  }

  async #serve(buffer: ReservableBuffer): Promise<void> {
    this.#isServing = true;
    while (this.#waiting.length > 0) {
      await buffer.room();
      const served = buffer.credit > 0 ? this.#grant(buffer) : this.#takeNewlyStarved(buffer.isStarved);
      for (const { resolve } of served) resolve();
      await nextTurn();
      for (const { share } of served) share.endTurn();
    }
    this.#isServing = false;
  }

  /** Those that must run vital tasks, because nothing is left to hand out. */
  #takeNewlyStarved(isStarved: boolean): WaitingLoop[] {
    const starved = isStarved ? this.#waiting.filter(({ wasStarved }) => !wasStarved) : [];
    this.#waiting = this.#waiting.filter((waiting) => !starved.includes(waiting));
    return starved;
  }

  #grant(buffer: ReservableBuffer): WaitingLoop[] {
    const served: WaitingLoop[] = [];
    while (buffer.credit > 0) {
      const waiting = this.#waiting.shift();
      if (!waiting) break;
      waiting.share.beginTurn();
      served.push(waiting);
    }
    return served;
  }

  mayBlock({ capacity }: ReservableBuffer, places: number): boolean {
    return this.#blocked + places <= capacity * BLOCKED_FRACTION;
  }

  /** Counts the places of a read that may block. Returns the function that ends that; it must be called once. */
  block(places: number): () => void {
    this.#blocked += places;
    return () => {
      this.#blocked -= places;
    };
  }
}

/** A loop that waits for places. */
interface WaitingLoop {
  readonly share: BufferShare;
  /** It came when nothing was left to hand out, so that it need not be woken to see that. */
  readonly wasStarved: boolean;
  readonly resolve: () => void;
}

/** The part of one loop. */
class BufferShare implements ReadBuffer {
  readonly #buffer: ReservableBuffer;
  readonly #shares: BufferShares;
  readonly #hasWatch: boolean;
  /** The last read found as much as it asked for. */
  #isBusy = false;
  /** The last task found its part of the places; see `FairShare`. */
  #isTaskBusy = false;
  /** A task has run since the last read. */
  #hasRunTask = false;
  /** When the loop may look again, on the monotonic clock. */
  #nextPoll = 0;
  #room: Promise<void> | undefined;
  /** Places that are kept for the loop while it is its turn. */
  #kept: { readonly places: number; readonly release: () => void } | undefined;

  constructor(buffer: ReservableBuffer, shares: BufferShares, hasWatch: boolean) {
    this.#buffer = buffer;
    this.#shares = shares;
    this.#hasWatch = hasWatch;
  }

  get credit(): number {
    if (this.#kept) return this.#kept.places;
    const { credit } = this.#buffer;
    if (!this.#shares.isShared) return credit;
    if (this.#isHungry) return Math.min(credit, this.batchSize);
    const share = this.#hasWatch ? this.#shares.watchedShare(this.#buffer) : this.#shares.quietShare(this.#buffer);
    return Math.min(credit, share);
  }

  get batchSize(): number {
    return this.#buffer.batchSize;
  }

  get hasRoom(): boolean {
    return this.#buffer.hasRoom;
  }

  get isStarved(): boolean {
    return this.#buffer.isStarved;
  }

  get mustNotBlock(): boolean {
    if (!this.#shares.isShared) return false;
    return this.#isHungry || !this.#shares.mayBlock(this.#buffer, this.credit);
  }

  get mayReadAhead(): boolean {
    return !this.#shares.isShared && this.#buffer.credit >= this.#buffer.batchSize;
  }

  get #isHungry(): boolean {
    return this.#isBusy || this.#isTaskBusy;
  }

  /** Keeps the places that the loop would ask for now. */
  beginTurn(): void {
    const places = this.credit;
    this.#kept = { places, release: this.#buffer.reserve(places) };
  }

  endTurn(): void {
    this.#kept?.release();
    this.#kept = undefined;
  }

  /** One wait at a time: a loop that stops waiting for another reason comes back to it. */
  room(): Promise<void> {
    this.#room ??= this.#untilRoom().finally(() => (this.#room = undefined));
    return this.#room;
  }

  /** The caller gives the places back once: those of an abandoned read at once, because it may never come back. */
  reserve(places: number, use: ReadUse): (found: number) => void {
    const giveBack = this.#buffer.reserve(places, use === 'blocking read');
    this.endTurn();
    if (use === 'blocking read') {
      const unblock = this.#shares.block(places);
      return (found) => {
        unblock();
        giveBack();
        this.#endRead(found >= places);
      };
    }
    const lapse = this.#shares.isShared ? setTimeout(giveBack, RESERVATION_LIMIT).unref() : undefined;
    return (found) => {
      clearTimeout(lapse);
      giveBack();
      if (use === 'task') {
        this.#hasRunTask = true;
        this.#isTaskBusy = found > 0 && found >= places / 2;
        return;
      }
      const wasBusy = this.#isBusy;
      this.#endRead(found > 0 && found >= places);
      if (use === 'read' && found === 0 && !wasBusy && !this.#isTaskBusy && this.#shares.isShared)
        this.#nextPoll = monotonicNow() + POLL_INTERVAL;
    };
  }

  #endRead(isBusy: boolean): void {
    this.#isBusy = isBusy;
    if (!this.#hasRunTask) this.#isTaskBusy = false;
    this.#hasRunTask = false;
  }

  async #untilRoom(): Promise<void> {
    const rest = this.#nextPoll - monotonicNow();
    if (rest > 0) await pause(rest);
    // Another loop that was woken may have taken the places.
    do await (this.#shares.isShared ? this.#shares.room(this.#buffer, this) : this.#buffer.room());
    while (this.credit === 0 && !this.isStarved);
  }
}
