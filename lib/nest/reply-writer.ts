import type { Payload, StreamProducer } from '../engine/stream-producer.js';
import { errorText } from '../error-text.js';
import { REQUEST_HEADERS } from './request-headers.js';
import type { RequestInfo } from './request-headers.js';

const ERROR = { [REQUEST_HEADERS.error]: '1', [REQUEST_HEADERS.final]: '1' };

/**
 * Writes the replies to one request, in order. Values of one turn of the event loop are looked at together, so that the
 * usual single value and the end of the Observable become one reply.
 */
export class ReplyWriter {
  readonly #request: RequestInfo;
  readonly #producer: StreamProducer;
  readonly #encode: (value: unknown) => Payload | Promise<Payload>;
  #values: unknown[] = [];
  #isScheduled = false;
  #isComplete = false;
  #writing: Promise<void> = Promise.resolve();

  constructor(request: RequestInfo, producer: StreamProducer, encode: (value: unknown) => Payload | Promise<Payload>) {
    this.#request = request;
    this.#producer = producer;
    this.#encode = encode;
  }

  next(value: unknown): void {
    this.#values.push(value);
    this.#schedule();
  }

  complete(): void {
    this.#isComplete = true;
    this.#schedule();
  }

  /** The last reply: an error as data, as Nest's filters have made it. */
  fail(error: unknown): void {
    this.#flush();
    const data = error instanceof Error ? { name: error.name, message: error.message } : error;
    // Encoded there, because what a handler throws may be no JSON either: a circle, or a bigint.
    this.#write(() => JSON.stringify(data) ?? 'null', ERROR);
  }

  /** Resolves when Redis has all replies. @throws RedisStreamsError when one could not be sent */
  async written(): Promise<void> {
    await new Promise(process.nextTick);
    await this.#writing;
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => this.#flush());
  }

  #flush(): void {
    if (!this.#isScheduled) return;
    this.#isScheduled = false;
    const values = this.#values;
    this.#values = [];
    values.forEach((value, index) => {
      const isLast = this.#isComplete && index === values.length - 1;
      this.#write(() => this.#encode(value), isLast ? { [REQUEST_HEADERS.final]: '1' } : {});
    });
    if (this.#isComplete && values.length === 0) this.#write(undefined, { [REQUEST_HEADERS.final]: '1' });
  }

  /** Without a payload: the end of a stream of replies that has no value of its own. */
  #write(encode: (() => Payload | Promise<Payload>) | undefined, headers: Record<string, string>): void {
    const writing = this.#writing.then(async () => {
      let payload: Payload;
      try {
        payload = encode ? await encode() : '';
      } catch (error) {
        // Nothing is written after it: the chain stays rejected.
        await this.#send(JSON.stringify({ status: 'error', message: errorText(error) }), ERROR);
        throw error;
      }
      await this.#send(payload, headers);
    });
    // Whoever waits for `written` is told; until then nobody must hear of it as an unhandled rejection.
    writing.catch(() => undefined);
    this.#writing = writing;
  }

  async #send(payload: Payload, headers: Record<string, string>): Promise<void> {
    const { correlationId, replyTo } = this.#request;
    await this.#producer.sendTo(replyTo, payload, {
      headers: { [REQUEST_HEADERS.correlationId]: correlationId, ...headers },
    });
  }
}
