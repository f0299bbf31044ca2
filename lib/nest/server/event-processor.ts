import type { MessageHandler } from '@nestjs/microservices';

import type { Delivery } from '../../engine/settling/settlement.js';
import { errorText, errorTextWithStack } from '../../shared/error-text.js';
import { HandlerError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { EmitEvent } from '../event-listeners.js';
import { settleExhausted, settleFailure } from './failure-policy.js';
import type { HandlerBinding } from './handler-binding.js';
import { runHandlers } from './handler-runner.js';
import type { PacketCodec } from '../packet-codec.js';
import type { RedisStreamsContext } from '../redis-streams.context.js';

/** One message on its way through its handlers. */
export interface EventInHand {
  readonly delivery: Delivery;
  readonly context: RedisStreamsContext;
}

export interface EventProcessorOptions {
  readonly codec: PacketCodec;
  readonly logger: Required<RedisStreamsLogger>;
  readonly emit: EmitEvent;
  /** Runs something between the hooks that instrumentation has set. */
  readonly withHooks: <T>(context: RedisStreamsContext, work: () => Promise<T>) => Promise<T>;
}

/** Decodes events, runs their handlers to the end and settles each message by how that went. */
export class EventProcessor {
  readonly #options: EventProcessorOptions;

  constructor(options: EventProcessorOptions) {
    this.#options = options;
  }

  /** @param canRetry false where nothing is pending, so that a failure can only be reported */
  async process(event: EventInHand, binding: HandlerBinding, canRetry: boolean): Promise<void> {
    const { codec, withHooks } = this.#options;
    const { delivery, context } = event;
    if (canRetry && this.#giveUp(event, binding)) return;
    try {
      const decoded = codec.decode(delivery.message, binding.pattern);
      const data: unknown = decoded instanceof Promise ? await decoded : decoded;
      await withHooks(context, () => runHandlers(handlersOf(binding), data, context));
    } catch (error) {
      this.#fail(event, error, binding, canRetry);
      return;
    }
    if (binding.ack === 'auto') delivery.settle({ kind: 'ack' });
  }

  /** The handler gets all that can be decoded; what it settled itself stays so, the rest shares the outcome. */
  async processBatch(events: readonly EventInHand[], binding: HandlerBinding, canRetry: boolean): Promise<void> {
    const readable: EventInHand[] = [];
    const payloads: unknown[] = [];
    for (const event of events) {
      if (canRetry && this.#giveUp(event, binding)) continue;
      try {
        payloads.push(await this.#options.codec.decode(event.delivery.message, binding.pattern));
        readable.push(event);
      } catch (error) {
        this.#fail(event, error, binding, canRetry);
      }
    }
    const contexts = readable.map(({ context }) => context);
    const [first] = contexts;
    if (!first) return;
    try {
      await this.#options.withHooks(first, () => runHandlers(handlersOf(binding), payloads, contexts));
    } catch (error) {
      for (const event of readable) if (!event.delivery.settlement) this.#fail(event, error, binding, canRetry);
      return;
    }
    if (binding.ack === 'auto') for (const { delivery } of readable) delivery.settle({ kind: 'ack' });
  }

  #giveUp({ delivery }: EventInHand, binding: HandlerBinding): boolean {
    const settlement = settleExhausted(delivery.message.deliveryCount, binding.failurePolicy);
    return settlement !== undefined && delivery.settle(settlement);
  }

  #fail({ delivery }: EventInHand, error: unknown, binding: HandlerBinding, canRetry: boolean): void {
    const { logger, emit } = this.#options;
    const { message } = delivery;
    const settlement = canRetry
      ? settleFailure(error, message.deliveryCount, binding.failurePolicy)
      : ({ kind: 'pending' } as const);
    const isFirst = delivery.settle(settlement);
    const outcome = isFirst ? settlement.kind : `settled before: ${delivery.settlement?.kind}`;
    logger.error(
      `Handling ${message.id} of '${message.streamKey}' failed (delivery ${message.deliveryCount}, ${outcome}): ` +
        errorTextWithStack(error),
    );
    emit('error', error instanceof Error ? error : new HandlerError(errorText(error), error));
    if (isFirst && settlement.kind === 'retry') emit('retry', { message, delay: settlement.delay, error });
  }
}

/** An event for a pattern that only answers requests is handled by that, and its result dropped. */
function handlersOf({ eventHandlers, requestHandler }: HandlerBinding): readonly MessageHandler[] {
  return eventHandlers.length > 0 || !requestHandler ? eventHandlers : [requestHandler];
}
