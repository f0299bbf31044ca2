import { callSafely } from '../shared/callbacks.js';
import { errorText } from '../shared/error-text.js';
import type { RedisStreamsLogger } from '../shared/logger.js';
import type { RedisStreamsEvents } from './redis-streams.events.js';

/** The listeners of a server or client. A listener that throws is logged; the others are called all the same. */
export class EventListeners {
  readonly #listeners = new Map<keyof RedisStreamsEvents, Set<(...args: never[]) => void>>();
  readonly #logger: RedisStreamsLogger;

  constructor(logger: RedisStreamsLogger) {
    this.#logger = logger;
  }

  add<E extends keyof RedisStreamsEvents>(event: E, listener: RedisStreamsEvents[E]): void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
  }

  emit<E extends keyof RedisStreamsEvents>(event: E, ...args: Parameters<RedisStreamsEvents[E]>): void {
    for (const listener of this.#listeners.get(event) ?? []) {
      callSafely(
        () => (listener as (...values: unknown[]) => unknown)(...args),
        (error) => this.#logger.error(`A listener of '${event}' failed: ${errorText(error)}`),
      );
    }
  }
}
