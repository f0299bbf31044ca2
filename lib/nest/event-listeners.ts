import { errorText } from '../shared/error-text.js';
import type { RedisStreamsLogger } from '../shared/logger.js';
import type { RedisStreamsEventsMap } from './redis-streams.events.js';

export type EmitEvent = <E extends keyof RedisStreamsEventsMap>(
  event: E,
  ...args: Parameters<RedisStreamsEventsMap[E]>
) => void;

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

  readonly emit: EmitEvent = (event, ...args) => {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        (listener as (...values: unknown[]) => void)(...args);
      } catch (error) {
        this.#logger.error(`A listener of '${event}' failed: ${errorText(error)}`);
      }
    }
  };
}
