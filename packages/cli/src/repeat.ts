import { setTimeout as pause } from 'node:timers/promises';
import { ConnectionError, ConnectTimeoutError } from 'nestjs-redis-streams/engine';
import type { Output } from './output.js';

/**
 * Reads again and again until the signal aborts, also when an outage is longer than `--timeout`: a command that watches is most
 * useful then.
 * @param interval milliseconds between two reads
 */
export async function repeat(
  output: Output,
  signal: AbortSignal,
  interval: number,
  read: () => Promise<void>,
): Promise<void> {
  let isOutage = false;
  while (!signal.aborted) {
    try {
      await read();
      isOutage = false;
    } catch (error) {
      if (!(error instanceof ConnectionError || error instanceof ConnectTimeoutError)) throw error;
      if (!isOutage) await output.warn(`${error.message}; trying again until Ctrl+C`);
      isOutage = true;
    }
    await pause(interval, undefined, { signal }).catch(() => undefined);
  }
}
