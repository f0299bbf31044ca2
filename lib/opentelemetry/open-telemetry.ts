import { context, ProxyTracerProvider, SpanKind, trace } from '@opentelemetry/api';
import type { Context, Link, MeterProvider, Span, TextMapPropagator, Tracer, TracerProvider } from '@opentelemetry/api';

import type { StreamMessage } from '../engine/messages/stream-message.js';
import type {
  ProcessDetails,
  ProcessOperation,
  ReceiveDetails,
  ReceiveOperation,
  RequestDetails,
  RequestOperation,
  SendOperation,
  SentMessageDetails,
  Telemetry,
} from '../engine/telemetry/telemetry.js';
import { InvalidOptionError } from '../errors.js';
import { check, optionNames } from '../shared/option-checks.js';
import { ATTRIBUTES, SCOPE, SPANS } from './conventions.js';
import { Destinations } from './destination.js';
import type { Destination } from './destination.js';
import { Meters } from './meters.js';
import { attributesOf, describeMessage, ProcessSpan, ReceiveSpan, RequestSpan, SendSpan } from './operations.js';
import { Propagation } from './propagation.js';

/** Options of {@link openTelemetry}. */
export interface OpenTelemetryOptions {
  /**
   * How the span of a handler refers to the span that sent its message: as its `child`, in the same trace, or by a `link` from a trace of
   * its own. A batch has links in either case, because its messages come from many traces.
   * @defaultValue `child`
   */
  parent?: 'child' | 'link';
  /**
   * Makes the spans.
   * @defaultValue the one that is registered, also if that happens later
   */
  tracerProvider?: TracerProvider;
  /**
   * Makes the metrics.
   * @defaultValue the one that is registered, also if that happens later
   */
  meterProvider?: MeterProvider;
  /**
   * Writes and reads the headers that carry trace and baggage.
   * @defaultValue the one that is registered
   */
  propagator?: TextMapPropagator;
}

const OPTIONS = optionNames<OpenTelemetryOptions>({
  parent: true,
  tracerProvider: true,
  meterProvider: true,
  propagator: true,
});

/**
 * Traces and metrics by the conventions of OpenTelemetry for messaging, for the option `telemetry`. Without an SDK that is
 * registered or given it does nothing.
 * @throws InvalidOptionError
 * @example
 * RedisStreamsModule.forRoot({ connection: 'redis://localhost:6379', telemetry: openTelemetry() })
 */
export function openTelemetry(options: OpenTelemetryOptions = {}): Telemetry {
  check.options('', options, OPTIONS);
  const { parent = 'child', tracerProvider, meterProvider, propagator } = options;
  check.oneOf('parent', parent, ['child', 'link']);
  requireMethod('tracerProvider', tracerProvider, 'getTracer');
  requireMethod('meterProvider', meterProvider, 'getMeter');
  requireMethod('propagator', propagator, 'inject');
  return new OpenTelemetry({
    tracer: (tracerProvider ?? trace).getTracer(SCOPE),
    isAwaited: tracerProvider === undefined && meterProvider === undefined && propagator === undefined,
    meters: new Meters(meterProvider),
    propagation: new Propagation(propagator),
    isLinked: parent === 'link',
  });
}

function requireMethod(option: string, value: object | undefined, method: string): void {
  if (value === undefined) return;
  if (typeof (value as Record<string, unknown> | null)?.[method] === 'function') return;
  throw InvalidOptionError.withoutValue(option, `must be an object with the method ${method}()`);
}

interface Parts {
  readonly tracer: Tracer;
  readonly meters: Meters;
  readonly propagation: Propagation;
  readonly isLinked: boolean;
  /** Nothing was given, so it depends on an SDK that is registered now or later. */
  readonly isAwaited: boolean;
}

interface StartedSpan {
  readonly span: Span;
  /** In which its handlers run. */
  readonly context: Context;
}

/** Starts the spans; `operations.ts` ends them. Holds attributes of streams, and nothing of a message. */
class OpenTelemetry implements Telemetry {
  readonly #tracer: Tracer;
  readonly #meters: Meters;
  readonly #propagation: Propagation;
  readonly #isLinked: boolean;
  #isAwaited: boolean;
  readonly #sends = new Destinations(SPANS.send);
  readonly #processes = new Destinations(SPANS.process);
  readonly #receives = new Destinations(SPANS.receive);
  readonly #requests = new Destinations(SPANS.request);

  constructor({ tracer, meters, propagation, isLinked, isAwaited }: Parts) {
    this.#tracer = tracer;
    this.#meters = meters;
    this.#propagation = propagation;
    this.#isLinked = isLinked;
    this.#isAwaited = isAwaited;
  }

  /** Until an SDK is registered, a message costs this check. */
  get #isOff(): boolean {
    if (!this.#isAwaited) return false;
    const provider = trace.getTracerProvider();
    const hasTracer = !(provider instanceof ProxyTracerProvider) || provider.getDelegateTracer(SCOPE) !== undefined;
    this.#isAwaited = !hasTracer && !this.#meters.isRegistered && !this.#propagation.isRegistered;
    return this.#isAwaited;
  }

  startSend({
    kind,
    streamKey,
    shardId,
    size,
    isDelayed,
    headers,
    source,
  }: SentMessageDetails): SendOperation | undefined {
    // An answer belongs to the spans of its request at both ends. Its stream is one of this client alone: a name without bound.
    if (kind === 'reply' || this.#isOff) return undefined;
    const destination = this.#sends.of(source, streamKey);
    const active = context.active();
    const creation = this.#propagation.isIn(headers) ? this.#propagation.creationOf(headers) : undefined;
    const attributes = destination.attributesOf(shardId);
    // The caller's own creation context stays, so the span is only a call of Redis that refers to it.
    const span = this.#tracer.startSpan(
      destination.spanName,
      creation
        ? { kind: SpanKind.CLIENT, attributes, links: [{ context: creation }] }
        : { kind: destination.kind, attributes },
      active,
    );
    if (span.isRecording()) {
      span.setAttribute(ATTRIBUTES.bodySize, size);
      if (isDelayed) span.setAttribute(ATTRIBUTES.delayed, true);
    }
    this.#propagation.inject(creation ? trace.deleteSpan(active) : trace.setSpan(active, span), headers);
    return new SendSpan(span, destination, this.#meters);
  }

  startRequest({ streamKey, source }: RequestDetails): RequestOperation | undefined {
    if (this.#isOff) return undefined;
    const destination = this.#requests.of(source, streamKey);
    const { kind, attributes, spanName } = destination;
    const active = context.active();
    const span = this.#tracer.startSpan(spanName, { kind, attributes }, active);
    return new RequestSpan(span, trace.setSpan(active, span), destination, this.#meters);
  }

  startProcess(messages: readonly StreamMessage[], details: ProcessDetails): ProcessOperation | undefined {
    const [first] = messages;
    if (!first || this.#isOff) return undefined;
    const { pattern, streamKey, isBatch, source } = details;
    const isMixed = isBatch && messages.some((message) => message.streamKey !== streamKey);
    const destination = this.#processes.ofPattern(source, pattern, isMixed ? undefined : streamKey, details);
    const started = isBatch
      ? this.#startBatch(messages, details, destination)
      : this.#startSingle(first, details, destination);
    const operation = new ProcessSpan(started.span, started.context, destination, this.#meters, isBatch);
    operation.started(messages);
    return operation;
  }

  startReceive({ streamKeys, group, consumer, source }: ReceiveDetails): ReceiveOperation | undefined {
    if (this.#isOff) return undefined;
    const reader = { group, consumer };
    const expected = this.#receives.of(source, streamKeys.length === 1 ? streamKeys[0] : undefined, reader);
    const { spanName, kind, attributes } = expected;
    const span = this.#tracer.startSpan(spanName, { kind, attributes }, context.active());
    return new ReceiveSpan(
      span,
      (message) => (message ? this.#receives.of(source, message.streamKey, reader) : expected),
      (message) => {
        const creation = this.#propagation.creationOf(message.headers);
        if (creation) span.addLink({ context: creation });
      },
      this.#meters,
    );
  }

  #startSingle(message: StreamMessage, { shardId }: ProcessDetails, destination: Destination): StartedSpan {
    const extracted = this.#propagation.extract(message.headers);
    const { spanName, kind } = destination;
    const attributes = destination.attributesOf(shardId);
    const creation = this.#isLinked ? trace.getSpanContext(extracted) : undefined;
    const span = this.#isLinked
      ? this.#tracer.startSpan(
          spanName,
          { kind, attributes, root: true, links: creation ? [{ context: creation }] : [] },
          extracted,
        )
      : this.#tracer.startSpan(spanName, { kind, attributes }, extracted);
    if (span.isRecording()) describeMessage(span, message);
    return { span, context: trace.setSpan(extracted, span) };
  }

  /** A span of its own trace: its messages come from many. Baggage of one message is not that of the batch. */
  #startBatch(messages: readonly StreamMessage[], { shardId }: ProcessDetails, destination: Destination): StartedSpan {
    const { spanName, kind } = destination;
    const attributes = { ...destination.attributesOf(shardId), [ATTRIBUTES.batchCount]: messages.length };
    const links = messages.flatMap((message): Link[] => {
      const creation = this.#propagation.creationOf(message.headers);
      return creation ? [{ context: creation, attributes: attributesOf(message) }] : [];
    });
    const active = context.active();
    const span = this.#tracer.startSpan(spanName, { kind, attributes, root: true, links }, active);
    return { span, context: trace.setSpan(active, span) };
  }
}
