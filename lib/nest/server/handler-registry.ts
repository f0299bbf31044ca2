import type { MessageHandler } from '@nestjs/microservices';

import { InvalidOptionError } from '../../errors.js';

/** A pattern that is known only when the application starts: `@EventPattern(() => config.ordersStream)`. */
export type PatternFactory = () => unknown;

/** The handlers of a server, by the route of their pattern. */
export class HandlerRegistry {
  readonly #routeOf: (pattern: unknown) => string;
  readonly #handlers = new Map<string, MessageHandler[]>();
  readonly #replacedRoutes = new Set<string>();
  readonly #unresolved: Array<readonly [factory: PatternFactory, handler: MessageHandler]> = [];

  /** @param routeOf the route of a pattern; throws for one that cannot be a stream */
  constructor(routeOf: (pattern: unknown) => string) {
    this.#routeOf = routeOf;
  }

  /** @throws InvalidOptionError for a pattern that cannot be a stream */
  add(pattern: unknown, handler: MessageHandler, isEventHandler: boolean, extras: Record<string, unknown>): void {
    Object.assign(handler, { isEventHandler, extras });
    if (typeof pattern === 'function') this.#unresolved.push([pattern as PatternFactory, handler]);
    else this.#bind(this.#routeOf(pattern), handler);
  }

  /** All handlers, after the pattern factories were called. @throws InvalidOptionError when one returns no pattern */
  async resolve(): Promise<ReadonlyMap<string, readonly MessageHandler[]>> {
    for (;;) {
      const [next] = this.#unresolved;
      if (!next) return this.#handlers;
      const [factory, handler] = next;
      const route = this.#routeOf(await factory());
      // Only now: a start that fails here is repeated with the same handlers.
      this.#unresolved.shift();
      this.#bind(route, handler);
    }
  }

  /** Routes with several request handlers, of which only the last one answers. */
  get replacedRoutes(): ReadonlySet<string> {
    return this.#replacedRoutes;
  }

  /** False when the route has no handler, and none of the pattern factories that are left can give it one. */
  mayHave(route: string): boolean {
    return this.#handlers.has(route) || this.#unresolved.length > 0;
  }

  /** @throws InvalidOptionError when the route has no event handler */
  eventHandlersOf(route: string): readonly MessageHandler[] {
    const handlers = this.#handlers.get(route)?.filter(({ isEventHandler }) => isEventHandler) ?? [];
    if (handlers.length === 0) throw new InvalidOptionError('pattern', 'must have an event handler', route);
    return handlers;
  }

  /** As in Nest, a second handler for requests replaces the first; handlers for events all stay. */
  #bind(route: string, handler: MessageHandler): void {
    const others = this.#handlers.get(route) ?? [];
    const kept = handler.isEventHandler ? others : others.filter(({ isEventHandler }) => isEventHandler);
    if (kept.length < others.length) this.#replacedRoutes.add(route);
    this.#handlers.set(route, [...kept, handler]);
  }
}
