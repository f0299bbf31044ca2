import { useEffect, useState } from 'preact/hooks';

/** A value that components follow. */
export class Store<T> {
  readonly #listeners = new Set<() => void>();
  #value: T;

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set(value: T): void {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const listener of this.#listeners) listener();
  }

  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [, redraw] = useState(0);
  useEffect(() => {
    const seen = store.value;
    const stop = store.subscribe(() => redraw((count) => count + 1));
    // It may have changed between the first drawing and this effect.
    if (!Object.is(seen, store.value)) redraw((count) => count + 1);
    return stop;
  }, [store]);
  return store.value;
}
