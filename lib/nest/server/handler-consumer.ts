import { partitionOf } from '../../engine/consuming/partition.js';
import type { ConsumerSession } from '../../engine/consuming/consumer-session.js';
import { deadLetterStream, storeDeadLetter } from '../../engine/settling/dead-letter.js';
import type { Delivery, Settlement } from '../../engine/settling/settlement.js';
import { Dispatcher } from '../../engine/settling/dispatcher.js';
import { resolveConsumerOptions } from '../../engine/options/resolve-options.js';
import type { ResolvedConsumerOptions } from '../../engine/options/resolve-options.js';
import { StreamAssignment } from '../../engine/consuming/stream-assignment.js';
import { AdaptivePrefetch } from '../../engine/consuming/reading/adaptive-prefetch.js';
import type { StreamMessage } from '../../engine/messages/stream-message.js';
import type { RedisStreamer } from '../../engine/streamer.js';
import { ShutdownTimeoutError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { within } from '../../shared/backoff.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import { KEY_HEADER } from '../packet-codec.js';
import type { DeadLetterEvent } from '../redis-streams.events.js';
import { consumerOptions } from '../redis-streams.options.js';
import type { ServerRedisStreamsOptions } from '../redis-streams.options.js';

export interface HandlerConsumerOptions {
  readonly streamer: RedisStreamer;
  readonly server: ServerRedisStreamsOptions;
  readonly group: HandlerGroup;
  readonly deliver: (deliveries: readonly Delivery[], consumer: HandlerConsumer) => Promise<void>;
  /** Resolves when what handlers left behind, such as replies under way, is settled. */
  readonly settled: () => Promise<void>;
  readonly onDeadLetter: (event: DeadLetterEvent) => void;
  readonly onError: (error: RedisStreamsError) => void;
}

/** The consumer of a group of handlers: it reads their streams and hands each message on to the handlers of its pattern. */
export class HandlerConsumer {
  readonly #options: HandlerConsumerOptions;
  readonly #consumer: ResolvedConsumerOptions;
  readonly #session: ConsumerSession;
  readonly #assignment: StreamAssignment;
  readonly #dispatcher: Dispatcher;

  constructor(options: HandlerConsumerOptions) {
    const { streamer, server, group, deliver, onError } = options;
    this.#options = options;
    this.#consumer = resolveConsumerOptions(consumerOptions(server, group.mode));
    const isSizeOpen = server.batchSize === undefined && server.prefetch === undefined;
    const capacity = {
      inHandlers: group.concurrency * (group.batch?.size ?? 1),
      holdsUntilReleased: true,
      adaptivePrefetch: isSizeOpen ? new AdaptivePrefetch(this.#consumer, group.concurrency) : undefined,
    };
    this.#session = streamer.createSession(this.#consumer, capacity, { onStreamFailure: onError, onError });
    this.#assignment = new StreamAssignment(this.#session, onError);
    this.#dispatcher = new Dispatcher({
      session: this.#session,
      concurrency: group.concurrency,
      batch: group.batch,
      keyOf: group.ordered ? keyOf : undefined,
      onError,
      deliver: (deliveries) => deliver(deliveries, this),
      storeDeadLetter: (message, settlement) => this.#storeDeadLetter(message, settlement),
    });
  }

  get groupId(): string | undefined {
    return this.#consumer.group;
  }

  get consumerId(): string | undefined {
    return this.#consumer.group === undefined ? undefined : this.#consumer.consumer;
  }

  /** Whether a message that fails can come again: not without a pending entries list. */
  get canRetry(): boolean {
    return this.#consumer.group !== undefined && this.#consumer.autoCommit !== 'immediate';
  }

  /** The handlers of a message of this consumer. */
  bindingOf(message: StreamMessage): HandlerBinding {
    return this.#options.group.bindings.get(message.streamKey) as HandlerBinding;
  }

  async open(): Promise<void> {
    await this.#assignment.open([...this.#options.group.bindings.keys()]);
  }

  commit(): Promise<void> {
    return this.#session.acknowledger.commit();
  }

  async close(timeout: number): Promise<void> {
    await this.#assignment.close();
    const running = await this.#dispatcher.close(timeout);
    if (running > 0) {
      this.#options.onError(new ShutdownTimeoutError(running, timeout));
    }
    await within(timeout, this.#options.settled());
    await this.#session.leave();
  }

  async #storeDeadLetter(
    message: StreamMessage,
    { reason, error }: Settlement & { kind: 'dead-letter' },
  ): Promise<void> {
    const { streamer, onDeadLetter } = this.#options;
    const target = this.bindingOf(message).failurePolicy.deadLetter || {};
    const group = this.#consumer.group as string;
    const { key } = partitionOf(message);
    const firstFailure = this.#session.acknowledger.failedFirst(message);
    const letter = { message, key, group, consumer: this.#consumer.consumer, reason, error, firstFailure, target };
    const id = await storeDeadLetter(letter, streamer.appending);
    onDeadLetter({
      message,
      group,
      reason,
      error,
      deadLetterStream: deadLetterStream(message.streamKey, target),
      deadLetterId: id,
    });
  }
}

/** The same key may mean different things on different streams. */
function keyOf(message: StreamMessage): string | undefined {
  const key = message.headers[KEY_HEADER];
  return key === undefined ? undefined : `${message.streamKey} ${key}`;
}
