import { resolveDeadLetter } from '../engine/settling/dead-letter.js';
import type { DeadLetterOptions } from '../engine/settling/dead-letter.js';
import type { ConsumerMode } from '../engine/options/consumer-mode.js';
import { resolveRetry } from '../engine/settling/retry-policy.js';
import type { RetryOptions } from '../engine/settling/retry-policy.js';
import { InvalidOptionError } from '../errors.js';
import { check, definedOptions, optionNames } from '../shared/option-checks.js';
import type { AckMode } from './redis-streams.options.js';
import type { FailurePolicy } from './server/failure-policy.js';
import type { StandardSchemaV1 } from './standard-schema.js';

/** Settings of a handler that is given many messages at once. */
export interface BatchOptions {
  /** Maximum number of messages in a batch. */
  size: number;
  /**
   * Longest time for which a batch waits to become full, in milliseconds.
   * @defaultValue `50`
   */
  timeout?: number;
}

/** How many messages a handler is given in a time, calls for retries included. */
export interface RateLimitOptions {
  /** 1 to 100,000. */
  max: number;
  /** Milliseconds, at least 10. */
  per: number;
  /**
   * Whose messages count together: those of this process, or those of all instances of the group.
   * @defaultValue `instance`
   */
  scope?: 'instance' | 'group';
}

/** Second argument of `@EventPattern`: settings of one handler, in place of the server's. */
export interface HandlerExtras {
  /**
   * When messages of this handler are acknowledged. If one handler of a pattern has `manual`, all of them have.
   * @defaultValue `ack` of the server
   */
  ack?: AckMode;
  /**
   * Messages of this handler at once; with `batch`, batches at once. Of several handlers of a pattern the lowest applies to all.
   * @defaultValue `concurrency` of the server; with `batch`, `1`
   */
  concurrency?: number;
  /** How this handler reads its stream. @defaultValue `mode` of the server */
  mode?: ConsumerMode;
  /**
   * How often a message whose handling failed is handled again; false: never. Event handlers of one pattern must not differ in it.
   * Without effect where nothing is pending: in `real-time` mode, and with `autoCommit: 'immediate'`.
   * @defaultValue that of another handler of the pattern, else `retry` of the server
   */
  retry?: RetryOptions | false;
  /**
   * Where a message goes that failed at every attempt; false: it is retried without end. Event handlers of one pattern must not differ
   * in it. Without effect where nothing is pending, as `retry`.
   * @defaultValue that of another handler of the pattern, else `deadLetter` of the server
   */
  deadLetter?: DeadLetterOptions | false;
  /**
   * The handler receives arrays of payloads and contexts. When it fails, it is called again with single messages, as arrays of
   * one, so that no message becomes a dead letter because of another one.
   * @defaultValue none: one message for each call
   */
  batch?: BatchOptions;
  /**
   * Messages with the same key are handled one after the other, in their order. With `shardOwnership: 'owned'` they are in any case,
   * unless there is a `batch`. True for all handlers of a pattern if it is for one.
   * @defaultValue `false`
   */
  ordered?: boolean;
  /**
   * Messages over the rate wait; nothing is lost or reordered by it.
   * @defaultValue no limit
   */
  rateLimit?: RateLimitOptions;
}

/** The schema of a catalog, among the extras that Nest keeps for a handler. */
export const SCHEMA: unique symbol = Symbol.for('nestjs-redis-streams:schema') as never;

export interface ResolvedHandlerExtras extends Pick<HandlerExtras, 'ack' | 'concurrency' | 'mode'> {
  readonly retry: FailurePolicy['retry'] | undefined;
  readonly deadLetter: FailurePolicy['deadLetter'] | undefined;
  readonly batch: Required<BatchOptions> | undefined;
  readonly ordered: boolean;
  readonly rateLimit: Required<RateLimitOptions> | undefined;
  readonly schema: StandardSchemaV1 | undefined;
}

const DEFAULT_BATCH_TIMEOUT = 50;

const HANDLER_EXTRAS = optionNames<HandlerExtras & Record<'qos' | 'queue', unknown>>({
  ack: true,
  concurrency: true,
  mode: true,
  retry: true,
  deadLetter: true,
  batch: true,
  ordered: true,
  rateLimit: true,
  // Of Nest's MQTT and NATS transports: in a hybrid application a handler may be for several.
  qos: true,
  queue: true,
});
const RATE_OPTIONS = optionNames<RateLimitOptions>({ max: true, per: true, scope: true });
const BATCH_OPTIONS = optionNames<BatchOptions>({ size: true, timeout: true });

/** @param handler its decorator, as errors name it @throws InvalidOptionError */
export function resolveHandlerExtras(
  extras: (HandlerExtras & { readonly [SCHEMA]?: StandardSchemaV1 }) | undefined,
  handler: string,
): ResolvedHandlerExtras {
  check.options(handler, extras ?? {}, HANDLER_EXTRAS);
  const { ack, concurrency, mode, retry, deadLetter, batch, ordered = false, rateLimit } = definedOptions(extras ?? {});
  const at = (option: string): string => `${handler}.${option}`;
  if (ack !== undefined) check.oneOf(at('ack'), ack, ['auto', 'manual']);
  if (concurrency !== undefined) check.integer(at('concurrency'), concurrency, 1, 100_000);
  if (mode !== undefined) check.oneOf(at('mode'), mode, ['real-time', 'resumable', 'load-balanced']);
  check.boolean(at('ordered'), ordered);
  if (ordered && batch) throw new InvalidOptionError(at('ordered'), 'cannot be combined with batch', ordered);
  return {
    ack,
    concurrency,
    mode,
    ordered,
    rateLimit: rateLimit && resolveRateLimit(rateLimit, at),
    schema: extras?.[SCHEMA],
    batch: batch && resolveBatch(batch, at),
    retry: retry === undefined ? undefined : resolveRetry(retry, at('retry')),
    deadLetter: deadLetter === undefined ? undefined : resolveDeadLetter(deadLetter, at('deadLetter')),
  };
}

function resolveBatch(batch: BatchOptions, at: (option: string) => string): Required<BatchOptions> {
  check.options(at('batch'), batch, BATCH_OPTIONS);
  const { size, timeout = DEFAULT_BATCH_TIMEOUT } = batch;
  check.integer(at('batch.size'), size, 1, 100_000);
  check.time(at('batch.timeout'), timeout, 0);
  return { size, timeout };
}

function resolveRateLimit(rate: RateLimitOptions, at: (option: string) => string): Required<RateLimitOptions> {
  check.options(at('rateLimit'), rate, RATE_OPTIONS);
  const { max, per, scope = 'instance' } = rate;
  check.integer(at('rateLimit.max'), max, 1, 100_000);
  check.time(at('rateLimit.per'), per, 10);
  check.oneOf(at('rateLimit.scope'), scope, ['instance', 'group']);
  return { max, per, scope };
}
