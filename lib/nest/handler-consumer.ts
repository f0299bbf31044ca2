import type { ConsumerSession } from '../engine/consumer-session.js';
import type { Delivery } from '../engine/delivery.js';
import { Dispatcher } from '../engine/dispatcher.js';
import { resolveConsumerOptions } from '../engine/options.js';
import type { ResolvedConsumerOptions } from '../engine/options.js';
import { StreamAssignment } from '../engine/stream-assignment.js';
import type { RedisStreamer } from '../engine/streamer.js';
import { RedisStreamsError } from '../errors.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';
import { consumerOptions } from './redis-streams.options.js';
import type { ServerRedisStreamsOptions } from './redis-streams.options.js';

export interface HandlerConsumerOptions {
  readonly streamer: RedisStreamer;
  readonly server: ServerRedisStreamsOptions;
  readonly group: HandlerGroup;
  readonly deliver: (delivery: Delivery, binding: HandlerBinding) => Promise<void>;
  readonly onError: (error: RedisStreamsError) => void;
}

/** The consumer of a group of handlers: it reads their streams and dispatches each message to the handlers of its pattern. */
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
    const messages = this.#consumer.prefetch + group.concurrency;
    this.#session = streamer.createSession(
      this.#consumer,
      { messages, holdsUntilReleased: true },
      { onStreamFailure: onError, onError },
    );
    this.#assignment = new StreamAssignment(this.#session, onError);
    this.#dispatcher = new Dispatcher({
      session: this.#session,
      concurrency: group.concurrency,
      onError,
      deliver: (delivery) => deliver(delivery, group.bindings.get(delivery.message.streamKey) as HandlerBinding),
      bury: () => Promise.reject(new RedisStreamsError('ERR_UNSUPPORTED_OPERATION', 'no dead letters')),
    });
  }

  get groupId(): string | undefined {
    return this.#consumer.group;
  }

  get consumerId(): string | undefined {
    return this.#consumer.group === undefined ? undefined : this.#consumer.consumer;
  }

  has(binding: HandlerBinding): boolean {
    return this.#options.group.bindings.get(binding.pattern) === binding;
  }

  async open(): Promise<void> {
    await this.#assignment.open([...this.#options.group.bindings.keys()]);
  }

  commit(): Promise<void> {
    return this.#session.commit();
  }

  async close(timeout: number): Promise<void> {
    await this.#assignment.close();
    const running = await this.#dispatcher.close(timeout);
    if (running > 0) {
      const message = `${running} handlers were still running after ${timeout} ms; their messages stay pending`;
      this.#options.onError(new RedisStreamsError('ERR_SHUTDOWN_TIMEOUT', message));
    }
    await this.#session.leave();
  }
}
