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

/** Fails with the description if the condition does not hold at each look within the time: for what must not happen. */
export async function stays(
  description: string,
  condition: () => boolean | Promise<boolean>,
  time = 300,
): Promise<void> {
  const end = Date.now() + time;
  for (let now = Date.now(); now < end; now = Date.now()) {
    if (!(await condition())) throw new Error(`it did not stay so that ${description}`);
    await pause(POLL_INTERVAL);
  }
}
