/**
 * Whole milliseconds on a clock that only goes forward, for deadlines and intervals: the system's own may be set back by an
 * hour, and whoever waits by it then waits for an hour more.
 */
export function monotonicNow(): number {
  return Math.floor(performance.now());
}
