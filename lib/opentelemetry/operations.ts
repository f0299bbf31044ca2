import { context, SpanStatusCode } from '@opentelemetry/api';
import type { Attributes, Context, Span } from '@opentelemetry/api';

import type { StreamMessage } from '../engine/messages/stream-message.js';
import type {
  ProcessOperation,
  ProcessOutcome,
  ReceiveOperation,
  ReceiveOutcome,
  RequestOperation,
  RequestOutcome,
  SendOperation,
  SendOutcome,
} from '../engine/telemetry/telemetry.js';
import { RedisStreamsError } from '../errors.js';
import { errorText, isError } from '../shared/error-text.js';
import { ATTRIBUTES, EVENTS, OTHER_ERROR } from './conventions.js';
import type { Destination } from './destination.js';
import type { Meters } from './meters.js';

/** The span of a message that is sent, until Redis has accepted it. */
export class SendSpan implements SendOperation {
  readonly #span: Span;
  readonly #destination: Destination;
  readonly #meters: Meters;

  constructor(span: Span, destination: Destination, meters: Meters) {
    this.#span = span;
    this.#destination = destination;
    this.#meters = meters;
  }

  end({ id, error }: SendOutcome, duration: number): void {
    const span = this.#span;
    if (id !== undefined && span.isRecording()) span.setAttribute(ATTRIBUTES.messageId, id);
    const attributes = this.#destination.metricAttributesOf(noteError(span, error));
    this.#meters.operationEnded(duration, attributes);
    this.#meters.messageSent(attributes);
    span.end();
  }
}

/** The span of a request, until it is answered, has failed, or is given up. The span of its message is a child. */
export class RequestSpan implements RequestOperation {
  readonly #span: Span;
  readonly #context: Context;
  readonly #destination: Destination;
  readonly #meters: Meters;

  constructor(span: Span, own: Context, destination: Destination, meters: Meters) {
    this.#span = span;
    this.#context = own;
    this.#destination = destination;
    this.#meters = meters;
  }

  run<T>(work: () => T): T {
    return context.with(this.#context, work);
  }

  end({ error, isCancelled }: RequestOutcome, duration: number): void {
    if (isCancelled) this.#span.setAttribute(ATTRIBUTES.cancelled, true);
    const errorType = noteError(this.#span, error);
    this.#meters.operationEnded(duration, this.#destination.metricAttributesOf(errorType));
    this.#span.end();
  }
}

/** The span of handlers that run for one message or one batch. */
export class ProcessSpan implements ProcessOperation {
  readonly #span: Span;
  readonly #context: Context;
  readonly #destination: Destination;
  readonly #meters: Meters;
  readonly #isBatch: boolean;

  constructor(span: Span, own: Context, destination: Destination, meters: Meters, isBatch: boolean) {
    this.#span = span;
    this.#context = own;
    this.#destination = destination;
    this.#meters = meters;
    this.#isBatch = isBatch;
  }

  started(messages: readonly StreamMessage[]): void {
    this.#meters.messagesConsumed(messages.length, this.#destination.metricAttributes);
    if (!this.#span.isRecording()) return;
    for (const message of messages) {
      if (message.deliveryCount <= 1) continue;
      this.#note(EVENTS.redelivery, message, { [ATTRIBUTES.deliveryCount]: message.deliveryCount });
    }
  }

  run<T>(work: () => T): T {
    return context.with(this.#context, work);
  }

  end(outcomes: readonly ProcessOutcome[], duration: number): void {
    let errorType: string | undefined;
    const noted = new Set<unknown>();
    for (const outcome of outcomes) {
      const { error } = outcome;
      if (error !== undefined && !noted.has(error)) {
        noted.add(error);
        if (this.#span.isRecording()) this.#span.recordException(asException(error));
        errorType ??= noteError(this.#span, error);
      }
      if (this.#span.isRecording()) this.#noteOutcome(outcome);
    }
    const attributes = this.#destination.metricAttributesOf(errorType);
    this.#meters.processEnded(duration, attributes);
    this.#span.end();
  }

  #noteOutcome({ message, settlement, delay, reason, isExpired }: ProcessOutcome): void {
    if (isExpired) this.#note(EVENTS.expired, message);
    if (settlement === 'pending') this.#note(EVENTS.pending, message);
    if (settlement === 'retry') this.#note(EVENTS.retry, message, { [ATTRIBUTES.retryDelay]: delay });
    if (settlement === 'dead-letter') {
      this.#note(EVENTS.deadLetter, message, { [ATTRIBUTES.deadLetterReason]: reason });
    }
  }

  #note(event: string, message: StreamMessage, attributes: Attributes = {}): void {
    this.#span.addEvent(event, this.#isBatch ? { ...attributes, [ATTRIBUTES.messageId]: message.id } : attributes);
  }
}

/** The span of a call of `next()`, until a message is handed out. */
export class ReceiveSpan implements ReceiveOperation {
  readonly #span: Span;
  readonly #destinationOf: (message: StreamMessage | undefined) => Destination;
  readonly #link: (message: StreamMessage) => void;
  readonly #meters: Meters;

  constructor(
    span: Span,
    destinationOf: (message: StreamMessage | undefined) => Destination,
    link: (message: StreamMessage) => void,
    meters: Meters,
  ) {
    this.#span = span;
    this.#destinationOf = destinationOf;
    this.#link = link;
    this.#meters = meters;
  }

  end({ message, error }: ReceiveOutcome, duration: number): void {
    const destination = this.#destinationOf(message);
    if (message) {
      this.#meters.messagesConsumed(1, destination.metricAttributes);
      if (this.#span.isRecording()) {
        // With several streams only the message tells which one it was.
        this.#span.updateName(destination.spanName);
        this.#span.setAttributes(destination.attributes);
        describeMessage(this.#span, message);
        this.#link(message);
      }
    }
    const attributes = destination.metricAttributesOf(noteError(this.#span, error));
    this.#meters.operationEnded(duration, attributes);
    this.#span.end();
  }
}

/** Adds the attributes of one message. */
export function describeMessage(span: Span, { id, payload, deliveryCount }: StreamMessage): void {
  span.setAttribute(ATTRIBUTES.messageId, id);
  span.setAttribute(ATTRIBUTES.bodySize, payload.length);
  span.setAttribute(ATTRIBUTES.deliveryCount, deliveryCount);
}

/** The same for a link. */
export function attributesOf(message: StreamMessage): Attributes {
  return {
    [ATTRIBUTES.messageId]: message.id,
    [ATTRIBUTES.bodySize]: message.payload.length,
    [ATTRIBUTES.deliveryCount]: message.deliveryCount,
  };
}

/** Marks a span as failed. Returns the type of the error, undefined if there is none. */
function noteError(span: Span, error: unknown): string | undefined {
  if (error === undefined) return undefined;
  const type = errorTypeOf(error);
  if (span.isRecording()) {
    span.setAttribute(ATTRIBUTES.errorType, type);
    span.setStatus({ code: SpanStatusCode.ERROR, message: errorText(error) });
  }
  return type;
}

function errorTypeOf(error: unknown): string {
  if (error instanceof RedisStreamsError) return error.code;
  return isError(error) ? error.name || OTHER_ERROR : OTHER_ERROR;
}

function asException(error: unknown): Error | string {
  return isError(error) ? error : errorText(error);
}
