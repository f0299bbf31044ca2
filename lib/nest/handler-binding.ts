import type { MessageHandler } from '@nestjs/microservices';

import type { ConsumerMode } from '../engine/options.js';
import { InvalidOptionError } from '../errors.js';
import { resolveHandlerExtras } from './redis-streams.options.js';
import type { AckMode, HandlerExtras, ResolvedServerOptions } from './redis-streams.options.js';

/** All handlers of one pattern that are given the same messages. */
export interface HandlerBinding {
  readonly pattern: string;
  readonly mode: ConsumerMode;
  readonly ack: AckMode;
  /** Undefined shares the server's own limit with other handlers. */
  readonly concurrency: number | undefined;
  readonly handlers: readonly MessageHandler[];
}

/** Bindings that share one consumer, and so one connection, one buffer and one limit. */
export interface HandlerGroup {
  readonly mode: ConsumerMode;
  readonly concurrency: number;
  readonly bindings: ReadonlyMap<string, HandlerBinding>;
}

/**
 * Which handlers share a message and which share a consumer. Handlers of one pattern in one mode get the same messages,
 * for two consumers of a group would divide them; a handler with a limit of its own gets a consumer of its own, so that it
 * cannot hold up others.
 */
export function groupHandlers(
  handlers: ReadonlyMap<string, readonly MessageHandler[]>,
  server: ResolvedServerOptions,
  mode: ConsumerMode,
): HandlerGroup[] {
  const groups = new Map<string, HandlerGroup & { bindings: Map<string, HandlerBinding> }>();
  for (const [pattern, all] of handlers) {
    for (const binding of bind(pattern, all, server, mode)) {
      const own = binding.concurrency === undefined ? '' : `${pattern} ${binding.concurrency}`;
      const name = `${binding.mode} ${own}`;
      const group = groups.get(name) ?? {
        mode: binding.mode,
        concurrency: binding.concurrency ?? server.concurrency,
        bindings: new Map<string, HandlerBinding>(),
      };
      group.bindings.set(pattern, binding);
      groups.set(name, group);
    }
  }
  return [...groups.values()];
}

function bind(
  pattern: string,
  handlers: readonly MessageHandler[],
  server: ResolvedServerOptions,
  defaultMode: ConsumerMode,
): HandlerBinding[] {
  const byMode = new Map<ConsumerMode, Array<{ handler: MessageHandler; extras: HandlerExtras }>>();
  for (const handler of handlers) {
    const extras = resolveHandlerExtras(handler.extras, pattern);
    const mode = extras.mode ?? defaultMode;
    byMode.set(mode, [...(byMode.get(mode) ?? []), { handler, extras }]);
  }
  if (byMode.has('resumable') && byMode.has('load-balanced')) {
    throw new InvalidOptionError(
      `@EventPattern('${pattern}').mode`,
      'must not mix resumable and load-balanced',
      'both',
    );
  }
  return [...byMode].map(([mode, members]) => ({
    pattern,
    mode,
    ack: members.some(({ extras }) => (extras.ack ?? server.ack) === 'manual') ? 'manual' : 'auto',
    concurrency: smallest(members.map(({ extras }) => extras.concurrency)),
    handlers: members.map(({ handler }) => handler),
  }));
}

function smallest(values: ReadonlyArray<number | undefined>): number | undefined {
  const given = values.filter((value) => value !== undefined);
  return given.length === 0 ? undefined : Math.min(...given);
}
