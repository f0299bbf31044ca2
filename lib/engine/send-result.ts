import type { RedisStreamsError } from '../errors.js';
import type { Receipt } from './receipt.js';

/**
 * The promise of a receipt, which knows whether anybody waits for it. A failure that nobody would see is reported instead of
 * becoming an unhandled rejection, which would end the process.
 */
export class SendResult extends Promise<Receipt> {
  #isObserved = false;

  /** What `then` returns is an ordinary promise. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  static create(onUnobserved: (error: RedisStreamsError) => void): {
    result: SendResult;
    resolve: (receipt: Receipt) => void;
    reject: (error: RedisStreamsError) => void;
  } {
    let resolve!: (receipt: Receipt) => void;
    let fail!: (error: RedisStreamsError) => void;
    const result = new SendResult((onResolve, onReject) => {
      resolve = onResolve;
      fail = onReject;
    });
    const reject = (error: RedisStreamsError): void => {
      // An await in the same turn still comes in time.
      setImmediate(() => {
        if (!result.#isObserved) onUnobserved(error);
      });
      Promise.prototype.then.call(result, undefined, () => undefined);
      fail(error);
    };
    return { result, resolve, reject };
  }

  /** Follows a promise that would otherwise reject unseen. */
  static follow(promise: Promise<Receipt>, onUnobserved: (error: RedisStreamsError) => void): SendResult {
    const { result, resolve, reject } = SendResult.create(onUnobserved);
    promise.then(resolve, reject);
    return result;
  }

  override then<A = Receipt, B = never>(
    onResolve?: ((receipt: Receipt) => A | PromiseLike<A>) | null,
    onReject?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#isObserved = true;
    return super.then(onResolve, onReject);
  }
}
