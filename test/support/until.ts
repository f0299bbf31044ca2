import { setTimeout as pause } from 'node:timers/promises';

const POLL_INTERVAL = 10;

/** Waits until the condition holds, and fails with its description when it does not within the limit. */
export async function until(
  description: string,
  condition: () => boolean | Promise<boolean>,
  limit = 10_000,
): Promise<void> {
  const deadline = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() >= deadline) throw new Error(`not so within ${limit} ms: ${description}`);
    await pause(POLL_INTERVAL);
  }
}
