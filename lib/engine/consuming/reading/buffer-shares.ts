import { within } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import { withResolvers } from '../../../shared/deferred.js';
import type { Deferred } from '../../../shared/deferred.js';
import type { EntryBuffer, ReadBuffer } from './read-loop.js';

/** A read that may block asks for this part of an even share. */
const QUIET_PART = 4;
/** Milliseconds after which a read that has not come back keeps its places no longer. */
const RESERVATION_LIMIT = 1_000;

/** Places that one read has asked for. */
interface Reservation {
  readonly places: number;
  readonly madeAt: number;
}

/**
 * Divides the free places of one buffer among the read loops of a consumer. A loop that found as much as it asked for takes
 * a whole batch the next time, which it reserves, and does not block: large pages cost less, and the loops take turns. A
 * quiet loop asks for a few entries only and reserves nothing, because a blocked read would keep the places for long; each
 * of these reads may bring a few entries more than there are places.
 *
 * A reservation lapses after a second, because a node that stands still must not keep the places of loops that read from
 * others; a read that comes back later may bring a batch more than there are places.
 */
export class BufferShares {
  readonly #loops: () => number;
  /** Oldest first. */
  readonly #reservations = new Set<Reservation>();
  #reserved = 0;
  #released: Deferred<void> | undefined;

  /** @param loops number of loops that share the buffer */
  constructor(loops: () => number) {
    this.#loops = loops;
  }

  create(buffer: EntryBuffer): ReadBuffer {
    return new BufferShare(buffer, this);
  }

  get isShared(): boolean {
    return this.#loops() > 1;
  }

  /** Places of a buffer that no read has reserved. */
  free({ credit }: EntryBuffer): number {
    this.#dropLapsed();
    return Math.max(0, credit - this.#reserved);
  }

  /** Places for a read that may block. */
  quietShare({ credit }: EntryBuffer): number {
    return Math.max(1, Math.ceil(credit / (QUIET_PART * this.#loops())));
  }

  reserve(places: number): Reservation {
    const reservation = { places, madeAt: monotonicNow() };
    this.#reservations.add(reservation);
    this.#reserved += places;
    return reservation;
  }

  release(reservation: Reservation): void {
    this.#drop(reservation);
    this.#released?.resolve();
    this.#released = undefined;
  }

  /** Resolves when places are released the next time, or a reservation lapses. */
  async nextRelease(): Promise<void> {
    this.#released ??= withResolvers<void>();
    const [{ madeAt } = { madeAt: monotonicNow() }] = this.#reservations;
    await within(madeAt + RESERVATION_LIMIT - monotonicNow(), this.#released.promise);
  }

  #dropLapsed(): void {
    const now = monotonicNow();
    for (const reservation of this.#reservations) {
      if (now - reservation.madeAt < RESERVATION_LIMIT) return;
      this.#drop(reservation);
    }
  }

  #drop(reservation: Reservation): void {
    if (this.#reservations.delete(reservation)) this.#reserved -= reservation.places;
  }
}

/** The part of one loop. */
class BufferShare implements ReadBuffer {
  readonly #buffer: EntryBuffer;
  readonly #shares: BufferShares;
  /** The last read found as much as it asked for. */
  #isBusy = false;

  constructor(buffer: EntryBuffer, shares: BufferShares) {
    this.#buffer = buffer;
    this.#shares = shares;
  }

  get credit(): number {
    if (!this.#shares.isShared) return this.#buffer.credit;
    const places = this.#isBusy ? this.batchSize : this.#shares.quietShare(this.#buffer);
    return Math.min(this.#shares.free(this.#buffer), places);
  }

  get batchSize(): number {
    return this.#buffer.batchSize;
  }

  get hasRoom(): boolean {
    return this.#buffer.hasRoom && this.credit > 0;
  }

  get isStarved(): boolean {
    return this.#buffer.isStarved;
  }

  get mustNotBlock(): boolean {
    return this.#isBusy && this.#shares.isShared;
  }

  async room(): Promise<void> {
    for (;;) {
      await this.#buffer.room();
      if (this.credit > 0 || this.isStarved) return;
      // Reads of other loops, which do not block, have reserved all of it.
      await this.#shares.nextRelease();
    }
  }

  /** An abandoned read releases its places late, when the next one has reserved places of its own. */
  reserve(places: number): (found: number) => void {
    const reservation = this.mustNotBlock ? this.#shares.reserve(places) : undefined;
    return (found) => {
      this.#isBusy = found > 0 && found >= places;
      if (reservation) this.#shares.release(reservation);
    };
  }
}
