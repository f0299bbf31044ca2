import { isDeepStrictEqual } from 'node:util';

import type { MessageHandler } from '@nestjs/microservices';

import { streamOfShard } from '../../engine/messages/stream-message.js';
import type { ConsumerMode } from '../../engine/options/consumer-mode.js';
import { InvalidOptionError } from '../../errors.js';
import type { FailurePolicy } from './failure-policy.js';
import { resolveHandlerExtras } from '../handler-extras.js';
import { wildcardOf } from '../wildcard.js';
import type { Wildcard } from '../wildcard.js';
import type { StandardSchemaV1 } from '../standard-schema.js';
import type { AckMode, ResolvedServerOptions } from '../redis-streams.options.js';
import type { BatchOptions, RateLimitOptions, ResolvedHandlerExtras } from '../handler-extras.js';

/** The handlers of one pattern in one mode: each is given every message. */
export interface HandlerBinding {
  readonly pattern: string;
  /** The pattern, unless the option `streams` gives it another one. */
  readonly streamKey: string;
  /** Of a pattern for several streams; its text is `streamKey`. */
  readonly wildcard: Wildcard | undefined;
  readonly mode: ConsumerMode;
  readonly ack: AckMode;
  /** Undefined: the limit of the server, shared with other handlers. */
  readonly concurrency: number | undefined;
  readonly batch: Required<BatchOptions> | undefined;
  readonly ordered: boolean;
  readonly rateLimit: Required<RateLimitOptions> | undefined;
  readonly failurePolicy: FailurePolicy;
  /** Checks the events, before any handler. */
  readonly schema: StandardSchemaV1 | undefined;
  readonly eventHandlers: readonly MessageHandler[];
  /** A pattern may have handlers for events, one for requests, or both. */
  readonly requestHandler: MessageHandler | undefined;
}

/** Bindings that share one consumer, and with it one connection, one buffer and one limit. */
export interface HandlerGroup {
  readonly mode: ConsumerMode;
  readonly concurrency: number;
  readonly batch: Required<BatchOptions> | undefined;
  readonly ordered: boolean;
  readonly rateLimit: Required<RateLimitOptions> | undefined;
  readonly bindings: ReadonlyMap<string, HandlerBinding>;
}

/**
 * Decides which handlers share a message and which share a consumer. Handlers of one pattern in one mode get the same
 * messages, because two consumers of a group would divide them. A handler with its own limit, with batches or with key
 * queues gets its own consumer, so that it cannot hold up others. @throws InvalidOptionError
 */
export function groupHandlers(
  handlers: ReadonlyMap<string, readonly MessageHandler[]>,
  server: ResolvedServerOptions,
  mode: ConsumerMode,
): HandlerGroup[] {
  const groups = new Map<string, HandlerGroup & { bindings: Map<string, HandlerBinding> }>();
  for (const [pattern, all] of handlers) {
    for (const binding of bind(pattern, all, server, mode)) {
      const { concurrency, batch, ordered, rateLimit } = binding;
      const isAlone = concurrency !== undefined || batch !== undefined || ordered || rateLimit !== undefined;
      const name = `${binding.mode} ${isAlone ? pattern : ''}`;
      const group = groups.get(name) ?? {
        mode: binding.mode,
        concurrency: concurrency ?? (batch ? 1 : server.concurrency),
        batch,
        ordered,
        rateLimit,
        bindings: new Map<string, HandlerBinding>(),
      };
      group.bindings.set(pattern, binding);
      groups.set(name, group);
    }
  }
  refuseSharedStreams([...groups.values()]);
  refuseOwnDeadLetters([...groups.values()], server.shards);
  return [...groups.values()];
}

/** Two consumers of a group would divide the messages of a stream. */
function refuseSharedStreams(groups: readonly HandlerGroup[]): void {
  const patterns = new Map<string, string>();
  for (const { bindings, mode } of groups) {
    for (const { pattern, streamKey } of bindings.values()) {
      const name = `${mode === 'real-time'} ${streamKey}`;
      const other = patterns.get(name);
      if (other !== undefined) {
        const [named, owner] = streamKey === pattern ? [other, pattern] : [pattern, other];
        const rule = `must not be the stream '${streamKey}' of '${owner}' as well: two patterns cannot share a stream`;
        throw InvalidOptionError.withoutValue(`streams['${named}']`, rule);
      }
      patterns.set(name, pattern);
    }
  }
}

/**
 * A failing handler would feed on its own dead letters, each larger than the one before, or be fed by another one of its
 * group. The default `<stream>.dead` may have a handler: its dead letters are in `<stream>.dead.dead`.
 */
function refuseOwnDeadLetters(groups: readonly HandlerGroup[], shards: boolean): void {
  const bindings = groups.filter(({ mode }) => mode !== 'real-time').flatMap((group) => [...group.bindings.values()]);
  for (const { pattern, failurePolicy } of bindings) {
    const stream = failurePolicy.deadLetter === false ? undefined : failurePolicy.deadLetter.stream;
    const isRead = bindings.some((other) => {
      return stream === other.streamKey || (shards && stream !== undefined && isShardOf(other.streamKey, stream));
    });
    if (!isRead) continue;
    const rule = `for '${pattern}' must not be a stream that the same group reads, or failures would feed on themselves`;
    throw new InvalidOptionError('deadLetter.stream', rule, stream);
  }
}

export function isShardOf(streamKey: string, key: string): boolean {
  return key !== streamKey && streamOfShard(key) === streamKey;
}

/**
 * The event handlers of a binding. An event for a pattern that only answers requests goes to that handler; its result is
 * dropped.
 */
export function eventHandlersOf({ eventHandlers, requestHandler }: HandlerBinding): readonly MessageHandler[] {
  return eventHandlers.length > 0 || !requestHandler ? eventHandlers : [requestHandler];
}

interface Member {
  /** As errors name it. */
  readonly decorator: string;
  readonly handler: MessageHandler;
  readonly extras: ResolvedHandlerExtras;
}

function bind(
  pattern: string,
  handlers: readonly MessageHandler[],
  server: ResolvedServerOptions,
  defaultMode: ConsumerMode,
): HandlerBinding[] {
  const byMode = new Map<ConsumerMode, Member[]>();
  for (const handler of handlers) {
    const decorator = `@${handler.isEventHandler ? 'EventPattern' : 'MessagePattern'}('${pattern}')`;
    const extras = resolveHandlerExtras(handler.extras, decorator);
    const mode = extras.mode ?? defaultMode;
    if (mode !== 'real-time' && server.group === undefined) {
      throw new InvalidOptionError(
        'group',
        `must be given for the ${mode} handler of '${pattern}'; set mode 'real-time' on single handlers only`,
        server.group,
      );
    }
    if (mode === 'real-time' && !handler.isEventHandler) {
      throw new InvalidOptionError(`${decorator}.mode`, 'must have a group, or every server would answer', mode);
    }
    byMode.set(mode, [...(byMode.get(mode) ?? []), { decorator, handler, extras }]);
  }
  if (byMode.has('resumable') && byMode.has('load-balanced')) {
    const member = [...byMode.values()].flat().find(({ extras }) => extras.mode !== undefined);
    throw new InvalidOptionError(`${member?.decorator}.mode`, 'must not mix resumable and load-balanced', 'both');
  }
  return [...byMode].map(([mode, members]) => join(pattern, mode, members, server));
}

/**
 * Where `ack`, `concurrency` and `ordered` of handlers for the same messages differ, the most cautious setting applies to all of them;
 * other differences are refused. @throws InvalidOptionError
 */
function join(
  pattern: string,
  mode: ConsumerMode,
  members: readonly Member[],
  server: ResolvedServerOptions,
): HandlerBinding {
  const batched = members.find(({ extras }) => extras.batch);
  const batch = batched?.extras.batch;
  if (batched && members.length > 1) {
    throw new InvalidOptionError(`${batched.decorator}.batch`, 'needs a pattern with one handler', batch);
  }
  const [schema, other] = new Set(members.flatMap(({ extras }) => extras.schema ?? []));
  if (other) {
    throw new InvalidOptionError(`@EventPattern('${pattern}')`, 'must have one schema for all of its handlers', other);
  }
  const [limited, alsoLimited] = members.filter(({ extras }) => extras.rateLimit);
  const rateLimit = limited?.extras.rateLimit;
  if (alsoLimited) {
    const { decorator, extras } = alsoLimited;
    const rule = 'must be set for one handler of a pattern only';
    throw new InvalidOptionError(`${decorator}.rateLimit`, rule, [rateLimit, extras.rateLimit]);
  }
  if (mode === 'real-time' && rateLimit?.scope === 'group') {
    const rule = "must be 'instance' without a group";
    throw new InvalidOptionError(`${limited?.decorator}.rateLimit.scope`, rule, 'group');
  }
  const eventMembers = members.filter(({ handler }) => handler.isEventHandler);
  // Requests are answered, not retried.
  const governing = eventMembers.length > 0 ? eventMembers : members;
  const limits = members.flatMap(({ extras }) => extras.concurrency ?? []);
  const streamKey = server.streams.get(pattern) ?? pattern;
  return {
    pattern,
    streamKey,
    wildcard: server.wildcards ? wildcardOf(pattern, streamKey) : undefined,
    mode,
    batch,
    ack: members.some(({ extras }) => (extras.ack ?? server.ack) === 'manual') ? 'manual' : 'auto',
    concurrency: limits.length === 0 ? undefined : Math.min(...limits),
    ordered: members.some(({ extras }) => extras.ordered),
    rateLimit,
    failurePolicy: {
      retry: settingOf('retry', mode, governing) ?? server.failurePolicy.retry,
      deadLetter: settingOf('deadLetter', mode, governing) ?? server.failurePolicy.deadLetter,
    },
    schema,
    eventHandlers: eventMembers.map(({ handler }) => handler),
    requestHandler: members.find(({ handler }) => !handler.isEventHandler)?.handler,
  };
}

/**
 * What one handler sets holds for all of them, because they are retried together. In real-time mode nothing is retried.
 * @throws InvalidOptionError where two of them set it differently
 */
function settingOf<K extends 'retry' | 'deadLetter'>(
  option: K,
  mode: ConsumerMode,
  members: readonly Member[],
): ResolvedHandlerExtras[K] {
  const setting = members.filter(({ extras }) => extras[option] !== undefined);
  const first = setting[0]?.extras[option];
  const other = setting.find(({ extras }) => !isDeepStrictEqual(extras[option], first));
  if (!other || mode === 'real-time') return first;
  const one: Record<string, unknown> = { ...(first || undefined) };
  const two: Record<string, unknown> = { ...(other.extras[option] || undefined) };
  const differing = Object.keys({ ...one, ...two }).filter((name) => !isDeepStrictEqual(one[name], two[name]));
  throw InvalidOptionError.withoutValue(
    `${other.decorator}.${option}`,
    `must be the same for all handlers of a pattern, which are retried together; they differ in ${differing.join(', ')}`,
  );
}
