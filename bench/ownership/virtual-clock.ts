interface Timer {
  at: number;
  readonly order: number;
  readonly every: number | undefined;
  readonly run: () => void;
  isCleared: boolean;
  ref(): Timer;
  unref(): Timer;
}

/** A function with the numbers 0 to 1 of a seed, always the same ones (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Time that passes only from one timer to the next: hours of it take seconds, and every run with the same seed is the same. */
export class VirtualClock {
  now = 0;
  #timers: Timer[] = [];
  #order = 0;

  /** In place of the timers, the clock and the random numbers of this process, until the function that it returns is called. */
  install(random: () => number): () => void {
    const former = { setTimeout, clearTimeout, setInterval, clearInterval };
    const { random: formerRandom } = Math;
    const formerNow = performance.now.bind(performance);
    Object.assign(globalThis, {
      setTimeout: (run: () => void, delay?: number) => this.#add(run, delay ?? 0, undefined),
      setInterval: (run: () => void, every: number) => this.#add(run, every, every),
      clearTimeout: clear,
      clearInterval: clear,
    });
    Math.random = random;
    performance.now = () => this.now;
    return () => {
      Object.assign(globalThis, former);
      Math.random = formerRandom;
      performance.now = formerNow;
    };
  }

  after(delay: number): Promise<void> {
    return new Promise((resolve) => this.#add(resolve, delay, undefined));
  }

  /** Runs all that is due in this time. What it awaits is done before the next timer. */
  async pass(time: number): Promise<void> {
    const end = this.now + time;
    await allAwaited();
    for (let [timer] = this.#timers; timer && timer.at <= end; [timer] = this.#timers) {
      this.#removeFirst();
      if (timer.isCleared) continue;
      this.now = timer.at;
      timer.run();
      if (timer.every !== undefined) {
        timer.at += timer.every;
        this.#push(timer);
      }
      await allAwaited();
    }
    this.now = end;
  }

  #add(run: () => void, delay: number, every: number | undefined): Timer {
    const timer: Timer = {
      at: this.now + Math.max(0, delay),
      order: (this.#order += 1),
      every,
      run,
      isCleared: false,
      ref: () => timer,
      unref: () => timer,
    };
    this.#push(timer);
    return timer;
  }

  #push(timer: Timer): void {
    const heap = this.#timers;
    let at = heap.push(timer) - 1;
    while (at > 0) {
      const above = (at - 1) >> 1;
      if (!isBefore(timer, heap[above] as Timer)) break;
      heap[at] = heap[above] as Timer;
      at = above;
    }
    heap[at] = timer;
  }

  #removeFirst(): void {
    const heap = this.#timers;
    const last = heap.pop() as Timer;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let below = 2 * at + 1;
      if (below >= heap.length) break;
      if (below + 1 < heap.length && isBefore(heap[below + 1] as Timer, heap[below] as Timer)) below += 1;
      if (!isBefore(heap[below] as Timer, last)) break;
      heap[at] = heap[below] as Timer;
      at = below;
    }
    heap[at] = last;
  }
}

function isBefore(one: Timer, other: Timer): boolean {
  return one.at < other.at || (one.at === other.at && one.order < other.order);
}

function clear(timer: Timer | undefined): void {
  if (timer) timer.isCleared = true;
}

function allAwaited(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
