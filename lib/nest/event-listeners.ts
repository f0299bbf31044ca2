import type { RedisStreamsLogger } from '../logger.js';
import type { RedisStreamsEventsMap } from './redis-streams.events.js';

/** Listeners of a server or client. One that throws is reported and stops nothing. */
export class EventListeners {
  readonly #listeners = new Map<keyof RedisStreamsEventsMap, Set<(...args: never[]) => void>>();
  readonly #logger: RedisStreamsLogger;

  constructor(logger: RedisStreamsLogger) {
    this.#logger = logger;
  }

  add<E extends keyof RedisStreamsEventsMap>(event: E, listener: RedisStreamsEventsMap[E]): void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
  }

  emit<E extends keyof RedisStreamsEventsMap>(event: E, ...args: Parameters<RedisStreamsEventsMap[E]>): void {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        (listener as (...values: unknown[]) => void)(...args);
      } catch (error) {
        this.#logger.error(`A listener of '${event}' failed: ${error}`);
      }
    }
  }
}
