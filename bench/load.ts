/** The content of a message: 256 bytes. */
export const PAYLOAD = 'x'.repeat(256);

/** A string that has 256 bytes as JSON, including the quotes. */
export const JSON_PAYLOAD = 'x'.repeat(254);

/** Runs a task a number of times, at most `inFlight` at once; the next one begins as soon as one has ended. */
export async function withInFlight(times: number, inFlight: number, task: () => Promise<unknown>): Promise<void> {
  let left = times;
  const lane = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await task();
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
}

/** Counts received messages and resolves a promise at the number that is expected. */
export class Counter {
  #left = 0;
  #onAll: () => void = () => undefined;

  /** Resolves when that many messages have been counted. */
  expect(messages: number): Promise<void> {
    this.#left = messages;
    return new Promise((resolve) => (this.#onAll = resolve));
  }

  readonly count = (): void => {
    this.#left -= 1;
    if (this.#left === 0) this.#onAll();
  };
}

/** Warm-up rounds of what a service runs for days: V8 has optimised its many small functions only after these. */
export const SERVICE_WARM_UPS = 8;
