import type { RedisStreamsError } from '../errors.js';
import type { Receipt } from './receipt.js';

/**
 * The promise of a receipt, or of several, which knows whether anybody waits for it. A failure that nobody would see is reported instead of
 * becoming an unhandled rejection, which would end the process.
 */
export class SendResult<T = Receipt> extends Promise<T> {
  #isObserved = false;

  /** What `then` returns is an ordinary promise. */
  static override get [Symbol.species](): PromiseConstructor {
    return Promise;
  }

  static create<T = Receipt>(
    onUnobserved: (error: RedisStreamsError) => void,
  ): {
    result: SendResult<T>;
    resolve: (value: T) => void;
    reject: (error: RedisStreamsError) => void;
  } {
    let resolve!: (value: T) => void;
    let fail!: (error: RedisStreamsError) => void;
    const result = new SendResult<T>((onResolve, onReject) => {
      resolve = onResolve;
      fail = onReject;
    });
    const reject = (error: RedisStreamsError): void => {
      // An await in the same turn still comes in time.
      setImmediate(() => {
        if (!result.#isObserved) onUnobserved(error);
      });
      void Promise.prototype.then.call(result, undefined, () => undefined);
      fail(error);
    };
    return { result, resolve, reject };
  }

  /** Follows a promise that would otherwise reject unseen. */
  static follow<T>(promise: Promise<T>, onUnobserved: (error: RedisStreamsError) => void): SendResult<T> {
    const { result, resolve, reject } = SendResult.create<T>(onUnobserved);
    promise.then(resolve, reject);
    return result;
  }

  override then<A = T, B = never>(
    onResolve?: ((value: T) => A | PromiseLike<A>) | null,
    onReject?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#isObserved = true;
    return super.then(onResolve, onReject);
  }
}
