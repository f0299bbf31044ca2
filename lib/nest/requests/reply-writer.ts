import { AsyncResource } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

import { RpcException } from '@nestjs/microservices';
import type { Observable, Subscription } from 'rxjs';

import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import type { Payload } from '../../engine/messages/outgoing-message.js';
import { InvalidOptionError } from '../../errors.js';
import { JSON_SERIALIZER } from '../packet-codec.js';
import type { PacketCodec } from '../packet-codec.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import { isOfFilter } from '../server/handler-runner.js';
import { REQUEST_HEADERS, partHeader } from './request-headers.js';
import type { RequestInfo } from './request-headers.js';

const FINAL = { [REQUEST_HEADERS.final]: '1' };
const ERROR = { [REQUEST_HEADERS.error]: '1', ...FINAL };
const MORE = {};

/** What a client is told of an error that may have details of the server; the text of Nest's own transports. */
export const INTERNAL_ERROR = 'Internal server error';

/** In place of a value: the end of the replies, without a payload. */
const END = Symbol('end');

/** How replies are written, and who hears of the end. */
export interface ReplyOutlet {
  readonly producer: StreamProducer;
  readonly codec: PacketCodec;
  /** Redis has the first reply, and more may follow. */
  onFirstReply(writer: ReplyWriter): void;
  /** Called once for each writer: Redis has all of its replies, or `writer.failure` says why not. */
  onWritten(writer: ReplyWriter): void;
}

/**
 * Writes the replies to one request, in order. Values of one turn of the event loop are looked at together, so that the
 * usual single value and the end of the Observable become one reply. The others are numbered: one whose confirmation was lost is
 * stored twice, and the client drops the second. After a value that cannot be encoded or stored it
 * writes an error in place of it, unsubscribes from the Observable, and writes nothing more.
 *
 * A handler whose signal is aborted at the deadline ends without a result, which must not look like an answer: nothing is
 * written then, and the client fails with its time-out.
 */
export class ReplyWriter {
  readonly request: RequestInfo;
  /** Of the request. */
  readonly context: RedisStreamsContext;
  readonly #outlet: ReplyOutlet;
  #values: unknown[] = [];
  #isScheduled = false;
  #isComplete = false;
  /** Set while an encoder is awaited: later replies are written after it. */
  #encoding: Promise<void> | undefined;
  /** Set with the first numbered reply. */
  #answer: string | undefined;
  /** Of the last numbered reply. */
  #number = 0;
  /** Replies that are encoded or on their way to Redis. */
  #open = 0;
  #failure: unknown;
  #isWritten = false;
  #hasReplied = false;
  /** Ends {@link follow}: unsubscribes, in the async context of the request. */
  #unfollow: (() => void) | undefined;

  constructor(request: RequestInfo, context: RedisStreamsContext, outlet: ReplyOutlet) {
    this.request = request;
    this.context = context;
    this.#outlet = outlet;
  }

  get isWritten(): boolean {
    return this.#isWritten;
  }

  /** Whether Redis has a reply of several. */
  get hasReplied(): boolean {
    return this.#hasReplied;
  }

  /** Why a reply could not be encoded or stored; the first of several. */
  get failure(): unknown {
    return this.#failure;
  }

  /**
   * Each value becomes a reply. Resolves when the Observable completes, rejects with its error, of which nothing is
   * written. Resolves early, and unsubscribes, when nothing more is to be written.
   */
  follow(values: Observable<unknown>): Promise<void> {
    return new Promise((resolve, reject) => {
      let source: Subscription | undefined;
      const subscribe = (to: Observable<unknown>): void => {
        let ofFilter: Observable<unknown> | undefined;
        const subscription = to.subscribe({
          next: (value) => {
            if (isOfFilter(value, this.context)) ofFilter = value;
            else this.next(value);
          },
          error: reject,
          complete: () => {
            if (ofFilter) return subscribe(ofFilter);
            this.complete();
            resolve();
          },
        });
        // One that ended at once may have subscribed to the next.
        if (!source || !subscription.closed) source = subscription;
      };
      // Most emit while they are subscribed to: looked at afterwards, all at once.
      this.#isScheduled = true;
      subscribe(values);
      this.#unfollow = AsyncResource.bind(() => {
        source?.unsubscribe();
        resolve();
      });
      if (this.#isScheduled) this.#flush();
    });
  }

  /** The client reads no more replies: unsubscribes from the Observable, and writes nothing more. */
  abandon(): void {
    if (this.#isComplete) return;
    this.#values = [];
    this.#isScheduled = false;
    this.#stop();
    if (this.#open === 0) this.#announceWritten();
  }

  next(value: unknown): void {
    if (value === undefined || this.#isComplete) return;
    this.#values.push(value);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    process.nextTick(() => {
      if (this.#isScheduled) this.#flush();
    });
  }

  complete(): void {
    if (this.#isTooLate) {
      this.abandon();
      return;
    }
    this.#isComplete = true;
    this.#flush();
  }

  /** The last reply: an error as data, in the form that Nest's exception filters gave it. */
  fail(error: unknown): void {
    if (this.#isTooLate) {
      this.abandon();
      return;
    }
    this.#flush();
    this.#isComplete = true;
    this.#write(errorData(error), ERROR);
  }

  /** The signal was aborted at the deadline before the first reply. */
  get #isTooLate(): boolean {
    return this.#number === 0 && RedisStreamsContext.deliveryOf(this.context).abortReason === 'deadline';
  }

  #flush(): void {
    this.#isScheduled = false;
    const values = this.#values;
    if (values.length > 0) this.#values = [];
    values.forEach((value, index) => {
      const isLast = this.#isComplete && index === values.length - 1;
      this.#write(value, isLast ? FINAL : MORE);
    });
    if (this.#isComplete && values.length === 0) this.#write(END, FINAL);
  }

  #write(value: unknown, headers: Record<string, string>): void {
    this.#open += 1;
    this.#encoding = this.#encoding
      ? this.#encoding.then(() => this.#encodeAndAppend(value, headers))
      : this.#encodeAndAppend(value, headers);
  }

  /** A promise only where an encoder has to be awaited. Never fails. */
  #encodeAndAppend(value: unknown, headers: Record<string, string>): Promise<void> | undefined {
    if (this.#failure !== undefined) {
      this.#onStored(undefined);
      return undefined;
    }
    if (value === END) {
      this.#append('', headers);
      return undefined;
    }
    try {
      const payload = this.#encode(value, headers);
      if (payload instanceof Promise) return this.#appendWhenEncoded(payload, headers);
      this.#appendValue(payload, headers);
    } catch (error) {
      this.#appendFailure(error);
    }
    return undefined;
  }

  #encode(value: unknown, headers: Record<string, string>): Payload | Promise<Payload> {
    // JSON whatever the serializer is: the client reads an error without its deserializer.
    if (headers === ERROR) return value === undefined ? 'null' : JSON_SERIALIZER.serialize(value);
    const encoded = this.#outlet.codec.encode({ pattern: this.context.getPattern(), data: value });
    return encoded instanceof Promise ? encoded.then(({ payload }) => payload) : encoded.payload;
  }

  async #appendWhenEncoded(encoding: Promise<Payload>, headers: Record<string, string>): Promise<void> {
    try {
      this.#appendValue(await encoding, headers);
    } catch (error) {
      this.#appendFailure(error);
    }
  }

  /** A last reply without a payload is the end, so a last value that is encoded to no bytes is followed by it. */
  #appendValue(payload: Payload, headers: Record<string, string>): void {
    if (payload.length > 0 || headers !== FINAL) return this.#append(payload, headers);
    this.#open += 1;
    this.#append(payload, MORE);
    this.#append('', FINAL);
  }

  #appendFailure(error: unknown): void {
    this.#failure = error;
    this.#append(JSON.stringify(encodingFailure(error)), ERROR);
    this.#stop();
  }

  #stop(): void {
    this.#isComplete = true;
    this.#unfollow?.();
  }

  #append(payload: Payload, headers: Record<string, string>): void {
    const { correlationId, replyTo } = this.request;
    const all: Record<string, string> = { [REQUEST_HEADERS.correlationId]: correlationId, ...headers };
    if (headers === MORE) all[REQUEST_HEADERS.part] = this.#nextPart();
    this.#outlet.producer.post(replyTo, payload, { headers: all }, this.#onStored, 'reply');
  }

  #nextPart(): string {
    this.#answer ??= randomBytes(4).toString('hex');
    this.#number += 1;
    return partHeader({ answer: this.#answer, number: this.#number });
  }

  readonly #onStored = (failure: unknown): void => {
    if (failure !== undefined && this.#failure === undefined) {
      this.#failure = failure;
      this.#stop();
    }
    this.#open -= 1;
    if (this.#isComplete && this.#open === 0) this.#announceWritten();
    else if (!this.#hasReplied && this.#failure === undefined) {
      this.#hasReplied = true;
      this.#outlet.onFirstReply(this);
    }
  };

  #announceWritten(): void {
    this.#isWritten = true;
    this.#outlet.onWritten(this);
  }
}

/** What a client gets in place of a value that cannot be encoded: the rule that the value breaks, and no text of the application. */
export function encodingFailure(error: unknown): { status: 'error'; message: string } {
  return { status: 'error', message: error instanceof InvalidOptionError ? error.message : INTERNAL_ERROR };
}

/** A filter may end with an RpcException: its payload is the answer, as Nest's own filter has it. */
function errorData(error: unknown): unknown {
  const data: unknown = error instanceof RpcException ? error.getError() : error;
  if (data instanceof Error) return { name: data.name, message: data.message };
  return data === error || (typeof data === 'object' && data !== null) ? data : { status: 'error', message: data };
}
