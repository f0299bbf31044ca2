import type { Sent, Updates } from '../../src/api.js';
import { Store } from './store.js';
import { setServerTime } from './time.js';

/** Milliseconds that figures may be old, at least: the server may be busy for a moment. */
const LEAST_LIMIT = 10_000;
/** Milliseconds between two updates that count, at most, where the server does not say how many there are. */
const LONGEST_INTERVAL = 60_000;
/** So many updates may be missing. */
const MISSING = 3;

export interface Freshness {
  /** When the figures were measured, by the clock of the viewer. */
  readonly at: number;
  /** Milliseconds after which they are late. */
  readonly limit: number;
}

/** Of the figures that the page shows; null where none are live. */
export const freshness = new Store<Freshness | null>(null);

export function noteUpdate(update: Updates[keyof Updates] & Sent): void {
  const { at: measured, now } = update;
  setServerTime(now);
  // An update may be older than its arrival: the server gives the latest one to new viewers at once.
  const at = Date.now() - Math.max(0, now - measured);
  const before = freshness.value;
  const interval = 'interval' in update ? update.interval : Math.min(LONGEST_INTERVAL, before ? at - before.at : 0);
  freshness.set({ at, limit: Math.max(LEAST_LIMIT, MISSING * interval) });
}

export function forgetUpdates(): void {
  freshness.set(null);
}
