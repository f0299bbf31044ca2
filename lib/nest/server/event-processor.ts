import type { ReadPacket } from '@nestjs/microservices';

import { promiseOf } from '../../shared/callbacks.js';
import { expiryOf, hasPassed } from '../deadlines.js';
import type { Clock } from '../deadlines.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import type { PacketCodec } from '../packet-codec.js';
import { validate } from '../standard-schema.js';
import { isFinal, settleFailed } from './failed-delivery.js';
import { ACKNOWLEDGED, HANDLED_ALONE, settleExhausted } from './failure-policy.js';
import type { ServerReporter } from './server-reporter.js';

/** The server, as far as it runs handlers. */
export interface EventHandling {
  /** Runs the event handlers of a pattern to their end. Rejects with the error of the first that failed. */
  handleEvent(pattern: string, packet: ReadPacket, context: RedisStreamsContext): Promise<unknown>;
  /** The same for a handler of batches, with all that could be decoded. */
  handleEvents(payloads: readonly unknown[], contexts: readonly RedisStreamsContext[]): Promise<unknown>;
}

/**
 * Decodes events, has the server run their handlers to the end, and settles each message by the outcome. It never
 * rejects: a failure settles the message by its failure policy and is reported.
 */
export class EventProcessor {
  readonly #server: EventHandling;
  readonly #codec: PacketCodec;
  readonly #reporter: ServerReporter;
  readonly #clock: () => Clock;

  constructor(server: EventHandling, codec: PacketCodec, reporter: ServerReporter, clock: () => Clock) {
    this.#server = server;
    this.#codec = codec;
    this.#reporter = reporter;
    this.#clock = clock;
  }

  process(context: RedisStreamsContext): Promise<void> {
    const expiring = this.#expiring(context);
    if (!expiring) return this.#handle(context);
    return expiring.then((isOver) => (isOver ? undefined : this.#handle(context)));
  }

  #handle(context: RedisStreamsContext): Promise<void> {
    if (this.#isExhausted(context)) return Promise.resolve();
    return promiseOf(() => this.#run(context)).then(
      () => this.#succeed(context),
      (error: unknown) => this.#fail(context, error),
    );
  }

  #run(context: RedisStreamsContext): Promise<unknown> {
    const { pattern } = RedisStreamsContext.scopeOf(context);
    const decoded = this.#decode(context);
    if (!(decoded instanceof Promise)) return this.#server.handleEvent(pattern, { pattern, data: decoded }, context);
    return decoded.then((data: unknown) => this.#server.handleEvent(pattern, { pattern, data }, context));
  }

  /**
   * The handler is given all messages that can be decoded. A message that it settled itself keeps its settlement; the
   * others share the outcome of the handler, unless that would end them because of one of them: then each is handled alone.
   */
  async processBatch(contexts: readonly RedisStreamsContext[]): Promise<void> {
    const decoded: RedisStreamsContext[] = [];
    const payloads: unknown[] = [];
    for (const context of contexts) {
      const expiring = this.#expiring(context);
      if (expiring && (await expiring)) continue;
      if (this.#isExhausted(context)) continue;
      try {
        payloads.push(await this.#decode(context));
        decoded.push(context);
      } catch (error) {
        this.#fail(context, error);
      }
    }
    const [first] = decoded;
    if (!first) return;
    try {
      await this.#server.handleEvents(payloads, decoded);
    } catch (error) {
      const unsettled = decoded.filter((context) => !RedisStreamsContext.deliveryOf(context).settlement);
      const scope = RedisStreamsContext.scopeOf(first);
      if (unsettled.length === 0) {
        this.#fail(first, error);
      } else if (decoded.length > 1 && isFinal(error, scope, RedisStreamsContext.deliveryOf(first), this.#reporter)) {
        this.#reporter.batchFailed(first, unsettled.length, error);
        for (const context of unsettled) {
          const delivery = RedisStreamsContext.deliveryOf(context);
          delivery.failure = error;
          delivery.settle(HANDLED_ALONE);
        }
      } else {
        for (const context of unsettled) this.#fail(context, error);
      }
      return;
    }
    for (const context of decoded) this.#succeed(context);
  }

  /** The data, as the schema of its pattern returns it; a promise where the deserializer or the schema is asynchronous. */
  #decode(context: RedisStreamsContext): unknown {
    const { pattern, binding } = RedisStreamsContext.scopeOf(context);
    const { schema } = binding;
    const decoded = this.#codec.decode(context.getMessage(), pattern);
    if (!schema) return decoded;
    if (decoded instanceof Promise) return decoded.then((data) => validate(schema, pattern, data));
    return validate(schema, pattern, decoded);
  }

  #succeed(context: RedisStreamsContext): void {
    if (RedisStreamsContext.scopeOf(context).binding.ack === 'auto')
      RedisStreamsContext.deliveryOf(context).settle(ACKNOWLEDGED);
  }

  /** Settles an event whose time has passed. Undefined for one that has time. */
  #expiring(context: RedisStreamsContext): Promise<boolean> | undefined {
    const message = context.getMessage();
    const expiresAt = expiryOf(message);
    return hasPassed(expiresAt, message, this.#clock())?.then((isOver) => {
      const delivery = RedisStreamsContext.deliveryOf(context);
      if (isOver && delivery.settle(ACKNOWLEDGED)) {
        delivery.isExpired = true;
        this.#reporter.expired(message, expiresAt);
      }
      return isOver;
    });
  }

  /** Settles a message that must not be handled once more. */
  #isExhausted(context: RedisStreamsContext): boolean {
    const { canRetry, haltsShard, binding } = RedisStreamsContext.scopeOf(context);
    // Each owner of a shard tries the message at which it was halted, however many attempts it has had.
    if (!canRetry || haltsShard) return false;
    const delivery = RedisStreamsContext.deliveryOf(context);
    const settlement = settleExhausted(delivery.message, binding.failurePolicy);
    return settlement !== undefined && delivery.settle(settlement);
  }

  #fail(context: RedisStreamsContext, error: unknown): void {
    const delivery = RedisStreamsContext.deliveryOf(context);
    settleFailed(delivery, RedisStreamsContext.scopeOf(context), error, this.#reporter);
  }
}
