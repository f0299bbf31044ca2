import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import type { Payload } from '../../engine/messages/outgoing-message.js';
import { errorText } from '../../shared/error-text.js';
import { REQUEST_HEADERS } from './request-headers.js';
import type { RequestInfo } from './request-headers.js';

const FINAL = { [REQUEST_HEADERS.final]: '1' };
const ERROR = { [REQUEST_HEADERS.error]: '1', ...FINAL };
const NO_HEADERS = {};

export interface ReplyWriterOptions {
  readonly request: RequestInfo;
  readonly producer: StreamProducer;
  readonly encode: (value: unknown) => Payload | Promise<Payload>;
  /** Told once, when Redis has all replies, or why one could not be encoded or sent. */
  readonly onWritten: (failure: unknown) => void;
}

/**
 * Writes the replies to one request, in order. Values of one turn of the event loop are looked at together, so that the
 * usual single value and the end of the Observable become one reply.
 */
export class ReplyWriter {
  readonly #options: ReplyWriterOptions;
  #values: unknown[] = [];
  #isScheduled = false;
  #isComplete = false;
  /** Set while an encoder is waited for: what comes later is written behind it. */
  #encoding: Promise<void> | undefined;
  /** Replies that are encoded or on their way to Redis. */
  #open = 0;
  #failure: unknown;
  #isWritten = false;

  constructor(options: ReplyWriterOptions) {
    this.#options = options;
  }

  get isWritten(): boolean {
    return this.#isWritten;
  }

  /** What is emitted while the function runs, at once as nearly always, is looked at after it. */
  together(emit: () => void): void {
    this.#isScheduled = true;
    emit();
    if (this.#isScheduled) this.#flush();
  }

  next(value: unknown): void {
    this.#values.push(value);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      if (this.#isScheduled) this.#flush();
    });
  }

  complete(): void {
    this.#isComplete = true;
    this.#flush();
  }

  /** The last reply: an error as data, as Nest's filters have made it. */
  fail(error: unknown): void {
    this.#flush();
    this.#isComplete = true;
    const data = error instanceof Error ? { name: error.name, message: error.message } : error;
    // Encoded there, because what a handler throws may be no JSON either: a circle, or a bigint.
    this.#write(() => JSON.stringify(data) ?? 'null', ERROR);
  }

  #flush(): void {
    this.#isScheduled = false;
    const values = this.#values;
    if (values.length > 0) this.#values = [];
    values.forEach((value, index) => {
      const isLast = this.#isComplete && index === values.length - 1;
      this.#write(() => this.#options.encode(value), isLast ? FINAL : NO_HEADERS);
    });
    // Without a payload: the end of a stream of replies that has no value of its own.
    if (this.#isComplete && values.length === 0) this.#write(() => '', FINAL);
  }

  #write(encode: () => Payload | Promise<Payload>, headers: Record<string, string>): void {
    this.#open += 1;
    if (this.#encoding) {
      this.#encoding = this.#encoding.then(() => this.#writeNow(encode, headers));
      return;
    }
    this.#encoding = this.#writeNow(encode, headers);
  }

  /** A promise only where an encoder has to be waited for. Never fails. */
  #writeNow(encode: () => Payload | Promise<Payload>, headers: Record<string, string>): Promise<void> | undefined {
    try {
      // Behind a value that could not be encoded nothing is written.
      const payload = this.#failure === undefined ? encode() : undefined;
      if (payload instanceof Promise) return payload.then((encoded) => this.#post(encoded, headers), this.#refuse);
      if (payload === undefined) this.#settle(undefined);
      else this.#post(payload, headers);
    } catch (error) {
      this.#refuse(error);
    }
    return undefined;
  }

  readonly #refuse = (error: unknown): void => {
    this.#failure = error;
    this.#post(JSON.stringify({ status: 'error', message: errorText(error) }), ERROR);
  };

  #post(payload: Payload, headers: Record<string, string>): void {
    const { request, producer } = this.#options;
    const { correlationId, replyTo } = request;
    const all = { [REQUEST_HEADERS.correlationId]: correlationId, ...headers };
    producer.post(replyTo, payload, { headers: all }, this.#settle);
  }

  readonly #settle = (failure: unknown): void => {
    this.#failure ??= failure;
    this.#open -= 1;
    if (!this.#isComplete || this.#open > 0) return;
    this.#isWritten = true;
    this.#options.onWritten(this.#failure);
  };
}
