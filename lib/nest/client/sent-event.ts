import { AsyncResource } from 'node:async_hooks';

import { Observable } from 'rxjs';
import type { Subscriber } from 'rxjs';

import type { OutcomeTaker } from '../../engine/messages/outgoing-message.js';
import type { Receipt } from '../../engine/messages/receipt.js';
import type { RedisStreamsError } from '../../errors.js';

/**
 * The outcome of one event: emits its receipt, or the reason why there is none, to every subscriber, however late. With a promise,
 * its resolving functions and its reaction, an event that waits would take twice the memory.
 *
 * What a subscriber throws becomes an unhandled rejection, as it would with a promise, and never reaches the write pipeline.
 */
export class SentEvent extends Observable<Receipt> implements OutcomeTaker {
  #receipt: Receipt | undefined;
  #error: RedisStreamsError | undefined;
  #isSettled = false;
  #isObserved = false;
  #waiting: Waiting | Waiting[] | undefined;

  constructor() {
    super(subscribe);
  }

  /** Called for each subscription. */
  static observe(event: SentEvent, subscriber: Subscriber<Receipt>): void {
    event.#isObserved = true;
    const waiting = new Waiting(subscriber);
    if (event.#isSettled) void Promise.resolve().then(() => waiting.settle(event.#receipt, event.#error));
    else if (!event.#waiting) event.#waiting = waiting;
    else event.#waiting = [event.#waiting, waiting].flat();
  }

  accepted(receipt: Receipt): void {
    this.#receipt = receipt;
    this.#announce();
  }

  failed(error: RedisStreamsError, onUnobserved: (error: RedisStreamsError) => void): void {
    this.#error = error;
    this.#announce();
    // A subscription in the same turn still comes in time.
    setImmediate(() => {
      if (!this.#isObserved) onUnobserved(error);
    });
  }

  #announce(): void {
    this.#isSettled = true;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (Array.isArray(waiting)) for (const one of waiting) one.settle(this.#receipt, this.#error);
    else waiting?.settle(this.#receipt, this.#error);
  }
}

/** One function for all events. */
function subscribe(this: Observable<Receipt>, subscriber: Subscriber<Receipt>): void {
  SentEvent.observe(this as SentEvent, subscriber);
}

/** One subscriber. It is notified in the async context in which it subscribed. */
class Waiting extends AsyncResource {
  readonly #subscriber: Subscriber<Receipt>;

  constructor(subscriber: Subscriber<Receipt>) {
    super('RedisStreamsEvent');
    this.#subscriber = subscriber;
  }

  settle(receipt: Receipt | undefined, error: RedisStreamsError | undefined): void {
    try {
      this.runInAsyncScope(this.#notify, this, receipt, error);
    } catch (thrown) {
      // RxJS lets through what the teardown of a subscription throws.
      void Promise.reject(thrown as Error);
    }
  }

  #notify(receipt: Receipt | undefined, error: RedisStreamsError | undefined): void {
    if (!receipt) return this.#subscriber.error(error);
    this.#subscriber.next(receipt);
    this.#subscriber.complete();
  }
}
