import { errorText } from '../../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../../shared/logger.js';
import { within } from '../../../shared/backoff.js';
import type { Partition } from '../partition.js';

/** What is owed to the rest of the group at the end is not worth a longer wait for a server that does not answer. */
const COURTESY_TIME = 1_000;

/** A step of leaving: the next one runs even if this one fails. */
export async function attempt(step: () => Promise<unknown>, logger: RedisStreamsLogger): Promise<void> {
  try {
    await step();
  } catch (error) {
    logger.warn(`Leaving the streams was not clean: ${errorText(error)}`);
  }
}

/** The same for each of the streams at once, and no longer than it is worth. */
export async function attemptForEach(
  streams: readonly Partition[],
  step: (stream: Partition) => Promise<unknown>,
  logger: RedisStreamsLogger,
): Promise<void> {
  await within(COURTESY_TIME, Promise.all(streams.map((stream) => attempt(() => step(stream), logger))));
}
