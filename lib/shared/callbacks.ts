/** Calls a function of the application, whose failure must end nothing here; what it throws or rejects with is passed on. */
export function callSafely(call: () => unknown, onFailure: (error: unknown) => void): void {
  try {
    const result = call();
    if (isPromise(result)) result.then(undefined, onFailure);
  } catch (error) {
    onFailure(error);
  }
}

export function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

/** What a call returns, as a promise; it rejects with what the call throws. A promise of this realm stays the same one. */
export function promiseOf<T>(call: () => T | PromiseLike<T>): Promise<T> {
  try {
    return Promise.resolve(call());
  } catch (error) {
    return Promise.reject(error as Error);
  }
}
