import { setTimeout as pause } from 'node:timers/promises';

const POLL_INTERVAL = 10;

/** Waits until the condition holds; fails with the description if it does not hold within the limit. */
export async function until(
  description: string,
  condition: () => boolean | Promise<boolean>,
  limit = 10_000,
): Promise<void> {
  const deadline = Date.now() + limit;
  while (!(await condition())) {
    if (Date.now() >= deadline) throw new Error(`timed out after ${limit} ms waiting until ${description}`);
    await pause(POLL_INTERVAL);
  }
}
