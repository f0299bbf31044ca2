/**
 * Whole milliseconds on a clock that only moves forward, for deadlines and intervals. The system clock may be set back by an
 * hour, and a deadline on it would then come an hour late.
 */
export function monotonicNow(): number {
  return Math.floor(performance.now());
}
