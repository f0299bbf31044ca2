import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import type { Attributes } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core';
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics';
import type { Histogram } from '@opentelemetry/sdk-metrics';
import {
  AlwaysOffSampler,
  BasicTracerProvider,
  InMemorySpanExporter,
  SimpleSpanProcessor,
} from '@opentelemetry/sdk-trace-node';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';

import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import type {
  ProcessDetails,
  ProcessOutcome,
  SentMessageDetails,
  Telemetry,
  TelemetrySource,
} from '../../lib/engine/telemetry/telemetry.js';
import { InvalidOptionError, SendFailedError } from '../../lib/errors.js';
import { openTelemetry } from '../../lib/opentelemetry.js';
import type { OpenTelemetryOptions } from '../../lib/opentelemetry.js';

const propagator = new CompositePropagator({
  propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()],
});
const contextManager = new AsyncLocalStorageContextManager();

beforeAll(() => {
  context.setGlobalContextManager(contextManager.enable());
});
afterAll(() => {
  context.disable();
  contextManager.disable();
});

const source: TelemetrySource = {
  status: 'connected',
  server: { host: 'redis.test', port: 6380 },
  stats: () => ({ status: 'connected', reconnects: 0, queued: 0, loops: [], isClosed: false }),
  health: () => Promise.reject(new Error('not asked')),
};

const closing: Array<() => Promise<void>> = [];
afterEach(async () => {
  for (const close of closing.splice(0)) await close();
});

/** A telemetry with a real SDK that exports into memory. */
function setUp(options: OpenTelemetryOptions = {}) {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
  const { meterProvider, collect } = metrics();
  return {
    telemetry: openTelemetry({ tracerProvider, meterProvider, propagator, ...options }),
    tracer: tracerProvider.getTracer('application'),
    spans: () => exporter.getFinishedSpans(),
    span(name: string): ReadableSpan {
      const found = exporter.getFinishedSpans().filter((each) => each.name === name);
      expect(found).toHaveLength(1);
      return found[0] as ReadableSpan;
    },
    collect,
  };
}

interface Point {
  readonly name: string;
  readonly unit: string;
  readonly attributes: Attributes;
  readonly value: number;
}

function metrics(temporality = AggregationTemporality.CUMULATIVE) {
  const exporter = new InMemoryMetricExporter(temporality);
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 1_000_000 });
  const meterProvider = new MeterProvider({ readers: [reader] });
  closing.push(() => meterProvider.shutdown());
  /** The last collection; the value of a histogram is its count. */
  const collect = async (): Promise<Point[]> => {
    exporter.reset();
    await meterProvider.forceFlush();
    const found = exporter.getMetrics().flatMap(({ scopeMetrics }) => scopeMetrics.flatMap((scope) => scope.metrics));
    return found.flatMap(({ descriptor: { name, unit }, dataPoints }) =>
      dataPoints.map(({ attributes, value }) => ({
        name,
        unit,
        attributes,
        value: typeof value === 'number' ? value : value.count,
      })),
    );
  };
  return { meterProvider, exporter, collect };
}

function message(headers: Record<string, string> = {}, deliveryCount = 1, streamKey = 'orders', id = '5-1') {
  const fields = ['data', '12345', ...Object.entries(headers).flatMap(([name, value]) => [`h:${name}`, value])];
  const entry = { id, deliveryCount, fields: fields.map((field) => Buffer.from(field)) };
  return StreamMessage.create({ streamKey, shardId: 0, key: streamKey }, entry, {
    messageField: 'data',
    timestampFormat: 'ms',
  });
}

const sent = (overrides: Partial<SentMessageDetails> = {}): SentMessageDetails => ({
  kind: 'message',
  streamKey: 'orders',
  shardId: undefined,
  size: 7,
  isDelayed: false,
  headers: {},
  source,
  ...overrides,
});

const handled = (overrides: Partial<ProcessDetails> = {}): ProcessDetails => ({
  kind: 'event',
  pattern: 'orders',
  streamKey: 'orders',
  shardId: undefined,
  group: 'billing',
  consumer: 'billing-1',
  isBatch: false,
  source,
  ...overrides,
});

const outcome = (of: StreamMessage, overrides: Partial<ProcessOutcome> = {}): ProcessOutcome => ({
  message: of,
  settlement: 'ack',
  delay: undefined,
  reason: undefined,
  error: undefined,
  isExpired: false,
  ...overrides,
});

/** Sends a message, and returns the headers with which it is stored. */
function send(telemetry: Telemetry, overrides: Partial<SentMessageDetails> = {}): Record<string, string> {
  const details = sent(overrides);
  telemetry.startSend?.(details)?.end({ id: '5-1' }, 5);
  return details.headers;
}

function handle(
  telemetry: Telemetry,
  messages: StreamMessage[],
  details: Partial<ProcessDetails> = {},
  outcomes: Array<Partial<ProcessOutcome>> = [],
): void {
  const operation = telemetry.startProcess?.(messages, handled(details));
  operation?.end(
    messages.map((each, index) => outcome(each, outcomes[index])),
    5,
  );
}

const COMMON = { 'messaging.system': 'redis', 'server.address': 'redis.test', 'server.port': 6380 };

describe('a message that is sent and handled', () => {
  it('is one trace: the span of the sender, its PRODUCER span, and the CONSUMER span as its child', () => {
    const { telemetry, tracer, span } = setUp();
    const request = tracer.startSpan('POST /orders');
    const headers = context.with(trace.setSpan(context.active(), request), () => send(telemetry, { shardId: 3 }));
    request.end();
    handle(telemetry, [message(headers)], { shardId: 3 });

    const [sending, processing] = [span('send orders'), span('process orders')];
    expect(sending.kind).toBe(SpanKind.PRODUCER);
    expect(sending.parentSpanContext?.spanId).toBe(request.spanContext().spanId);
    expect(sending.attributes).toEqual({
      ...COMMON,
      'messaging.operation.name': 'send',
      'messaging.operation.type': 'send',
      'messaging.destination.name': 'orders',
      'messaging.destination.partition.id': '3',
      'messaging.message.id': '5-1',
      'messaging.message.body.size': 7,
    });
    expect(processing.kind).toBe(SpanKind.CONSUMER);
    expect(processing.parentSpanContext?.spanId).toBe(sending.spanContext().spanId);
    expect(processing.spanContext().traceId).toBe(request.spanContext().traceId);
    expect(processing.links).toEqual([]);
    expect(processing.status.code).toBe(SpanStatusCode.UNSET);
    expect(processing.attributes).toEqual({
      ...COMMON,
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'orders',
      'messaging.destination.partition.id': '3',
      'messaging.consumer.group.name': 'billing',
      'messaging.client.id': 'billing-1',
      'messaging.message.id': '5-1',
      'messaging.message.body.size': 5,
      'messaging.redis.delivery_count': 1,
    });
  });

  it('has no shard, group or address where there is none', () => {
    const { telemetry, span } = setUp();
    const bare = { ...source, server: undefined };
    handle(telemetry, [message()], { group: undefined, consumer: undefined, source: bare });
    expect(Object.keys(span('process orders').attributes)).toEqual([
      'messaging.operation.name',
      'messaging.system',
      'messaging.operation.type',
      'messaging.destination.name',
      'messaging.message.id',
      'messaging.message.body.size',
      'messaging.redis.delivery_count',
    ]);
  });

  it("has its own trace with a link, and its baggage, with the option parent: 'link'", () => {
    const { telemetry, span } = setUp({ parent: 'link' });
    const baggage = propagation.createBaggage({ tenant: { value: 'acme' } });
    const headers = context.with(propagation.setBaggage(ROOT_CONTEXT, baggage), () => send(telemetry));
    const incoming = message(headers);
    const operation = telemetry.startProcess?.([incoming], handled());
    const tenant = operation?.run?.(() => propagation.getActiveBaggage()?.getEntry('tenant')?.value);
    operation?.end([outcome(incoming)], 5);

    const processing = span('process orders');
    expect(tenant).toBe('acme');
    expect(processing.parentSpanContext).toBeUndefined();
    expect(processing.links.map((link) => link.context.spanId)).toEqual([span('send orders').spanContext().spanId]);
  });

  it('runs its handler in its context, also after an await', async () => {
    const { telemetry, span } = setUp();
    const incoming = message(send(telemetry));
    const operation = telemetry.startProcess?.([incoming], handled());
    const active = await operation?.run?.(async () => {
      await Promise.resolve();
      return trace.getActiveSpan()?.spanContext().spanId;
    });
    operation?.end([outcome(incoming)], 5);
    expect(active).toBe(span('process orders').spanContext().spanId);
    expect(trace.getActiveSpan()).toBeUndefined();
  });

  it('is marked as delayed when it waits until it is due', () => {
    const { telemetry, span } = setUp();
    send(telemetry, { isDelayed: true });
    expect(span('send orders').attributes).toMatchObject({ 'messaging.redis.delayed': true });
  });

  it('has the error of a send that failed', async () => {
    const { telemetry, span, collect } = setUp();
    telemetry.startSend?.(sent())?.end({ error: new SendFailedError('orders', 'no memory') }, 5);
    const { attributes, status, events } = span('send orders');
    expect(attributes).toMatchObject({ 'error.type': 'ERR_SEND_FAILED' });
    expect(status).toEqual({ code: SpanStatusCode.ERROR, message: "Sending to 'orders' failed: no memory" });
    expect(events).toEqual([]);
    const points = await collect();
    expect(points.map(({ attributes: { 'error.type': type } }) => type)).toEqual([
      'ERR_SEND_FAILED',
      'ERR_SEND_FAILED',
    ]);
  });
});

describe('headers', () => {
  const TRACEPARENT = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';

  it('of the caller stay: the span is then a CLIENT that links to the creation context of the caller', () => {
    const { telemetry, span } = setUp();
    const baggage = propagation.createBaggage({ tenant: { value: 'acme' } });
    const headers = context.with(propagation.setBaggage(ROOT_CONTEXT, baggage), () =>
      send(telemetry, { headers: { traceparent: TRACEPARENT } }),
    );
    expect(headers).toEqual({ traceparent: TRACEPARENT, baggage: 'tenant=acme' });
    const sending = span('send orders');
    expect(sending.kind).toBe(SpanKind.CLIENT);
    expect(sending.links.map((link) => link.context.spanId)).toEqual(['b7ad6b7169203331']);
  });

  it('of the caller stay when they are no valid trace', () => {
    const { telemetry, span } = setUp();
    const headers = send(telemetry, { headers: { traceparent: 'mine', baggage: 'a=1' } });
    expect(headers).toEqual({ traceparent: 'mine', baggage: 'a=1' });
    expect(span('send orders')).toMatchObject({ kind: SpanKind.PRODUCER, links: [] });
  });

  it.each(['__proto__', 'constructor', 'toString'])('with the name %s are no part of a trace', (name) => {
    const { telemetry, span } = setUp();
    const headers = Object.defineProperty({}, name, { value: 'x', enumerable: true }) as Record<string, string>;
    expect(send(telemetry, { headers })).toHaveProperty('traceparent');
    handle(telemetry, [message({ [name]: 'x' })]);
    expect(span('process orders').parentSpanContext).toBeUndefined();
  });

  it.each([
    ['garbage', 'garbage'],
    ['a zero trace', '00-00000000000000000000000000000000-b7ad6b7169203331-01'],
    ['a very long one', `${TRACEPARENT}${'-x'.repeat(100_000)}`],
  ])('with a trace that is not valid (%s) begin a trace of their own', (_name, traceparent) => {
    const { telemetry, span } = setUp();
    handle(telemetry, [message({ traceparent })]);
    expect(span('process orders').parentSpanContext).toBeUndefined();
    handle(telemetry, [message({ traceparent })], { isBatch: true });
  });

  it('with baggage over the limits of the propagator are cut, in and out', () => {
    const { telemetry } = setUp();
    const huge = Array.from({ length: 500 }, (_, n) => `key${n}=${'v'.repeat(100)}`).join(',');
    const incoming = message({ traceparent: TRACEPARENT, baggage: huge, tracestate: `a=${'b'.repeat(10_000)}` });
    const operation = telemetry.startProcess?.([incoming], handled());
    const onward = operation?.run?.(() => send(telemetry)) ?? {};
    operation?.end([outcome(incoming)], 5);
    expect(onward['baggage']?.length).toBeGreaterThan(1_000);
    expect(onward['baggage']?.length).toBeLessThanOrEqual(8_192);
    expect(onward).not.toHaveProperty('tracestate');
  });
});

describe('a batch', () => {
  it('is one span with a link to the creation of each message that names one', () => {
    const { telemetry, span, spans } = setUp();
    const first = message(send(telemetry), 1, 'orders', '1-0');
    const second = message({}, 1, 'orders', '2-0');
    const third = message(send(telemetry), 2, 'orders', '3-0');
    handle(telemetry, [first, second, third], { isBatch: true });

    const processing = span('process orders');
    const sends = spans().filter(({ name }) => name === 'send orders');
    expect(processing.parentSpanContext).toBeUndefined();
    expect(processing.attributes).toMatchObject({ 'messaging.batch.message_count': 3 });
    expect(processing.attributes).not.toHaveProperty('messaging.message.id');
    expect(processing.links.map(({ context: linked, attributes }) => [linked.spanId, attributes])).toEqual([
      [
        sends[0]?.spanContext().spanId,
        { 'messaging.message.id': '1-0', 'messaging.message.body.size': 5, 'messaging.redis.delivery_count': 1 },
      ],
      [
        sends[1]?.spanContext().spanId,
        { 'messaging.message.id': '3-0', 'messaging.message.body.size': 5, 'messaging.redis.delivery_count': 2 },
      ],
    ]);
    expect(processing.events.map(({ name, attributes }) => [name, attributes])).toEqual([
      ['messaging.redis.redelivery', { 'messaging.message.id': '3-0', 'messaging.redis.delivery_count': 2 }],
    ]);
  });

  it('of one message has a link, too', () => {
    const { telemetry, span } = setUp();
    handle(telemetry, [message(send(telemetry))], { isBatch: true });
    expect(span('process orders').links).toHaveLength(1);
  });

  it('of several streams has the name of their pattern', () => {
    const { telemetry, span } = setUp();
    const messages = [message({}, 1, 'orders.paid'), message({}, 1, 'orders.sent')];
    handle(telemetry, messages, { isBatch: true, pattern: 'orders.*', streamKey: 'orders.paid' });
    const { attributes } = span('process orders.*');
    expect(attributes).toMatchObject({ 'messaging.destination.template': 'orders.*' });
    expect(attributes).not.toHaveProperty('messaging.destination.name');
  });

  it('notes an error once that every message has, and each settlement with the id of its message', () => {
    const { telemetry, span } = setUp();
    const error = new TypeError('no');
    const messages = ['1-0', '2-0', '3-0'].map((id) => message({}, 1, 'orders', id));
    handle(telemetry, messages, { isBatch: true }, [
      { settlement: 'retry', delay: 100, error },
      { settlement: 'dead-letter', reason: 'no', error },
      {},
    ]);
    const { events, attributes } = span('process orders');
    expect(attributes).toMatchObject({ 'error.type': 'TypeError' });
    expect(events.map(({ name }) => name)).toEqual([
      'exception',
      'messaging.redis.retry',
      'messaging.redis.dead_letter',
    ]);
    expect(events.slice(1).map((event) => event.attributes)).toEqual([
      { 'messaging.redis.retry.delay': 100, 'messaging.message.id': '1-0' },
      { 'messaging.redis.dead_letter.reason': 'no', 'messaging.message.id': '2-0' },
    ]);
  });
});

describe('what becomes of a message is an event of its span', () => {
  it.each<[string, Partial<ProcessOutcome>, string[], Attributes]>([
    [
      'retry',
      { settlement: 'retry', delay: 250, error: new Error('x') },
      ['exception', 'messaging.redis.retry'],
      { 'messaging.redis.retry.delay': 250 },
    ],
    [
      'dead letter',
      { settlement: 'dead-letter', reason: 'broken' },
      ['messaging.redis.dead_letter'],
      { 'messaging.redis.dead_letter.reason': 'broken' },
    ],
    ['left pending', { settlement: 'pending' }, ['messaging.redis.left_pending'], {}],
    ['expired', { isExpired: true }, ['messaging.redis.expired'], {}],
    ['not decided yet', { settlement: undefined }, [], {}],
  ])('%s', (_name, result, names, attributes) => {
    const { telemetry, span } = setUp();
    handle(telemetry, [message()], {}, [result]);
    const { events } = span('process orders');
    expect(events.map(({ name }) => name)).toEqual(names);
    expect(events.at(-1)?.attributes ?? {}).toEqual(attributes);
  });

  it('redelivery, with the number of deliveries', () => {
    const { telemetry, span } = setUp();
    handle(telemetry, [message({}, 3)]);
    const { events, attributes } = span('process orders');
    expect(events).toMatchObject([{ name: 'messaging.redis.redelivery', attributes: { 'messaging.redis.delivery_count': 3 } }]); // prettier-ignore
    expect(attributes).toMatchObject({ 'messaging.redis.delivery_count': 3 });
  });
});

describe('the error of a handler', () => {
  class OutOfStock extends Error {
    override readonly name = 'OutOfStock';
  }

  it.each<[string, unknown, string, string]>([
    ['an error of the application', new OutOfStock('none left'), 'OutOfStock', 'none left'],
    ['one of this package', new SendFailedError('b', 'x'), 'ERR_SEND_FAILED', "Sending to 'b' failed: x"],
    ['a text', 'just text', '_OTHER', 'just text'],
    ['an object', { status: 404 }, '_OTHER', '{"status":404}'],
    ['null', null, '_OTHER', 'null'],
  ])('that is %s makes status, type and one exception', (_name, error, type, text) => {
    const { telemetry, span } = setUp();
    handle(telemetry, [message()], {}, [{ settlement: 'dead-letter', reason: 'x', error }]);
    const { status, attributes, events } = span('process orders');
    expect(status).toEqual({ code: SpanStatusCode.ERROR, message: text });
    expect(attributes['error.type']).toBe(type);
    expect(events.filter(({ name }) => name === 'exception')).toMatchObject([
      { attributes: { 'exception.message': text } },
    ]);
  });

  it('has at most 50 types in the metrics of a stream; further ones are _OTHER', async () => {
    const { telemetry, collect } = setUp();
    for (let n = 0; n < 80; n += 1) {
      const error = Object.assign(new Error('x'), { name: `Order${n}Failed` });
      handle(telemetry, [message()], {}, [{ settlement: 'retry', error }]);
    }
    const durations = (await collect()).filter(({ name }) => name === 'messaging.process.duration');
    expect(durations).toHaveLength(51);
    expect(durations.find(({ attributes }) => attributes['error.type'] === '_OTHER')?.value).toBe(30);
  });
});

describe('a request', () => {
  it('is a CLIENT span around the send of its message; answers have no span', () => {
    const { telemetry, span, spans } = setUp();
    const request = telemetry.startRequest?.({ pattern: 'sum', streamKey: 'sum', source });
    const headers = request?.run?.(() => send(telemetry, { kind: 'request', streamKey: 'sum' })) ?? {};
    const incoming = message(headers, 1, 'sum');
    const handling = telemetry.startProcess?.(
      [incoming],
      handled({ kind: 'request', pattern: 'sum', streamKey: 'sum' }),
    );
    const reply = sent({ kind: 'reply', streamKey: 'sum.replies.4711' });
    handling?.run?.(() => expect(telemetry.startSend?.(reply)).toBeUndefined());
    handling?.end([outcome(incoming)], 5);
    request?.end({}, 5);

    expect(reply.headers).toEqual({});
    expect(spans().map(({ name }) => name)).toEqual(['send sum', 'process sum', 'request sum']);
    const [asking, sending] = [span('request sum'), span('send sum')];
    expect(asking.kind).toBe(SpanKind.CLIENT);
    expect(sending.parentSpanContext?.spanId).toBe(asking.spanContext().spanId);
    expect(span('process sum').parentSpanContext?.spanId).toBe(sending.spanContext().spanId);
  });

  it('that its subscriber gives up has no error', async () => {
    const { telemetry, span, collect } = setUp();
    telemetry.startRequest?.({ pattern: 'sum', streamKey: 'sum', source })?.end({ isCancelled: true }, 5);
    const { status, attributes } = span('request sum');
    expect(status.code).toBe(SpanStatusCode.UNSET);
    expect(attributes['messaging.redis.cancelled']).toBe(true);
    expect(await collect()).toMatchObject([
      { name: 'messaging.client.operation.duration', attributes: { 'messaging.operation.name': 'request' }, value: 1 },
    ]);
  });

  it('that fails has the error', () => {
    const { telemetry, span } = setUp();
    telemetry.startRequest?.({ pattern: 'sum', streamKey: 'sum', source })?.end({ error: { status: 'error' } }, 5);
    expect(span('request sum')).toMatchObject({
      status: { code: SpanStatusCode.ERROR, message: '{"status":"error"}' },
      attributes: { 'error.type': '_OTHER' },
    });
  });
});

describe('next()', () => {
  const reading = { streamKeys: ['orders'], group: 'g', consumer: 'c', source };

  it('is a CLIENT span that links to the creation of its message', async () => {
    const { telemetry, span, collect } = setUp();
    const receiving = telemetry.startReceive?.(reading);
    receiving?.end({ message: message(send(telemetry)) }, 5);
    const { kind, links, attributes } = span('receive orders');
    expect(kind).toBe(SpanKind.CLIENT);
    expect(links.map((link) => link.context.spanId)).toEqual([span('send orders').spanContext().spanId]);
    expect(attributes).toMatchObject({
      'messaging.operation.type': 'receive',
      'messaging.destination.name': 'orders',
      'messaging.consumer.group.name': 'g',
      'messaging.message.id': '5-1',
      'messaging.redis.delivery_count': 1,
    });
    const received = (await collect()).filter(({ attributes: of }) => of['messaging.operation.name'] === 'receive');
    expect(received.map(({ name, value }) => [name, value])).toEqual([
      ['messaging.client.operation.duration', 1],
      ['messaging.client.consumed.messages', 1],
    ]);
  });

  it('of several streams has the name of the stream whose message it hands out', () => {
    const { telemetry, spans } = setUp();
    const several = { ...reading, streamKeys: ['orders', 'payments'] };
    telemetry.startReceive?.(several)?.end({ message: message({}, 1, 'payments') }, 5);
    telemetry.startReceive?.(several)?.end({ error: new Error('closed') }, 5);
    expect(spans().map(({ name, attributes }) => [name, attributes['messaging.destination.name']])).toEqual([
      ['receive payments', 'payments'],
      ['receive', undefined],
    ]);
  });
});

describe('metrics', () => {
  it('are the four of the conventions, without an attribute that is unbounded', async () => {
    const { telemetry, collect } = setUp();
    for (const shardId of [0, 1]) handle(telemetry, [message(send(telemetry, { shardId }))], { shardId });
    const batch = [message({}, 1, 'orders', '7-0'), message({}, 1, 'orders', '8-0')];
    handle(telemetry, batch, { isBatch: true });

    const sending = { ...COMMON, 'messaging.destination.name': 'orders', 'messaging.operation.name': 'send' };
    const processing = {
      ...sending,
      'messaging.operation.name': 'process',
      'messaging.consumer.group.name': 'billing',
    };
    expect(await collect()).toEqual([
      { name: 'messaging.client.operation.duration', unit: 's', attributes: sending, value: 2 },
      { name: 'messaging.process.duration', unit: 's', attributes: processing, value: 3 },
      { name: 'messaging.client.sent.messages', unit: '{message}', attributes: sending, value: 2 },
      { name: 'messaging.client.consumed.messages', unit: '{message}', attributes: processing, value: 4 },
    ]);
  });

  it('have the pattern of a wildcard in place of the streams that match it', async () => {
    const { telemetry, spans, collect } = setUp();
    for (const tenant of ['a', 'b', 'c']) {
      const streamKey = `orders.${tenant}`;
      handle(telemetry, [message({}, 1, streamKey)], { pattern: 'orders.*', streamKey });
    }
    expect(new Set(spans().map(({ name }) => name))).toEqual(new Set(['process orders.*']));
    const points = (await collect()).filter(({ name }) => name === 'messaging.process.duration');
    expect(points).toHaveLength(1);
    expect(points[0]?.attributes).toMatchObject({ 'messaging.destination.template': 'orders.*' });
    expect(points[0]?.attributes).not.toHaveProperty('messaging.destination.name');
  });

  it.each([AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])(
    'count each message once, whatever the temporality (%s)',
    async (temporality) => {
      const { meterProvider, collect } = metrics(temporality);
      // Two of them, as a server and a client of one application may have them.
      const [server, client] = [setUp({ meterProvider }).telemetry, setUp({ meterProvider }).telemetry];
      const count = async (): Promise<number | undefined> =>
        (await collect()).find(({ name }) => name === 'messaging.client.sent.messages')?.value;
      send(server);
      send(client);
      expect(await count()).toBe(2);
      send(client);
      expect(await count()).toBe(temporality === AggregationTemporality.DELTA ? 1 : 3);
      expect(await count()).toBe(temporality === AggregationTemporality.DELTA ? undefined : 3);
    },
  );

  it.each([AggregationTemporality.CUMULATIVE, AggregationTemporality.DELTA])(
    'have each duration once, whatever the temporality (%s)',
    async (temporality) => {
      const { meterProvider, exporter, collect } = metrics(temporality);
      const { telemetry } = setUp({ meterProvider });
      const follow = (count: number): void => {
        for (let n = 0; n < count; n += 1) {
          telemetry.startSend?.(sent())?.end({ id: '1-0' }, 2);
          telemetry.startProcess?.([message()], handled())?.end([outcome(message())], 4);
        }
      };
      for (const count of [1, 1_300, 7]) follow(count);
      await collect();
      follow(3);
      await collect();
      const expected = temporality === AggregationTemporality.DELTA ? 3 : 1_311;
      const points = exporter.getMetrics().at(-1)?.scopeMetrics[0]?.metrics ?? [];
      const valueOf = (name: string) =>
        points.find(({ descriptor }) => descriptor.name === name)?.dataPoints[0]?.value as Partial<Histogram>;
      const sending = valueOf('messaging.client.operation.duration');
      const processing = valueOf('messaging.process.duration');
      expect([sending.count, processing.count]).toEqual([expected, expected]);
      expect(sending.sum).toBeCloseTo(0.002 * expected, 6);
      expect(processing.sum).toBeCloseTo(0.004 * expected, 6);
    },
  );

  it('begin when the first duration was measured, not when it was collected', async () => {
    const { meterProvider, exporter, collect } = metrics();
    send(setUp({ meterProvider }).telemetry);
    const sentAt = Date.now();
    while (Date.now() <= sentAt);
    await collect();
    const durations = exporter
      .getMetrics()
      .at(-1)
      ?.scopeMetrics[0]?.metrics.find(({ descriptor }) => descriptor.name === 'messaging.client.operation.duration');
    const [seconds, nanoseconds] = durations?.dataPoints[0]?.startTime ?? [Infinity, 0];
    expect(seconds * 1_000 + nanoseconds / 1e6).toBeLessThanOrEqual(sentAt);
  });

  it('count the messages of 3,000 streams, with a bounded memory', async () => {
    const { telemetry, collect } = setUp();
    for (let n = 0; n < 3_000; n += 1) send(telemetry, { streamKey: `orders-${n}` });
    const points = (await collect()).filter(({ name }) => name === 'messaging.client.sent.messages');
    expect(points.reduce((sum, { value }) => sum + value, 0)).toBe(3_000);
  });

  it('have the buckets that the conventions advise', async () => {
    const { meterProvider, exporter, collect } = metrics();
    send(setUp({ meterProvider }).telemetry);
    await collect();
    await meterProvider.forceFlush();
    const [histogram] = exporter.getMetrics()[0]?.scopeMetrics[0]?.metrics ?? [];
    expect(histogram?.dataPoints[0]?.value).toMatchObject({
      buckets: { boundaries: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10] },
    });
  });
});

describe('without an SDK', () => {
  it('nothing is recorded, and a trace that came with a message is passed on', () => {
    const telemetry = openTelemetry({ propagator });
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    const incoming = message({ traceparent });
    const operation = telemetry.startProcess?.([incoming], handled());
    expect(operation?.run?.(() => send(telemetry))).toEqual({ traceparent });
    operation?.end([outcome(incoming, { error: new Error('x'), settlement: 'retry' })], 5);
    telemetry.startRequest?.({ pattern: 'a', streamKey: 'a', source })?.end({ isCancelled: true }, 5);
    expect(send(openTelemetry())).toEqual({});
  });

  it('one that is registered later is used from then on, and nothing was followed before', async () => {
    const telemetry = openTelemetry();
    expect(telemetry.startSend?.(sent())).toBeUndefined();
    expect(telemetry.startProcess?.([message()], handled())).toBeUndefined();
    const exporter = new InMemorySpanExporter();
    const { meterProvider, collect } = metrics();
    const api = await import('@opentelemetry/api');
    trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }));
    api.metrics.setGlobalMeterProvider(meterProvider);
    propagation.setGlobalPropagator(propagator);
    try {
      expect(send(telemetry)).toHaveProperty('traceparent');
      expect(exporter.getFinishedSpans()).toHaveLength(1);
      const points = await collect();
      expect(points.find(({ name }) => name === 'messaging.client.sent.messages')?.value).toBe(1);
    } finally {
      trace.disable();
      api.metrics.disable();
      propagation.disable();
    }
  });
});

it('a trace that is not sampled is passed on, is not recorded, and counts in the metrics', async () => {
  const exporter = new InMemorySpanExporter();
  const tracerProvider = new BasicTracerProvider({
    sampler: new AlwaysOffSampler(),
    spanProcessors: [new SimpleSpanProcessor(exporter)],
  });
  const { telemetry, collect } = setUp({ tracerProvider });
  const headers = send(telemetry);
  expect(headers['traceparent']).toMatch(/-00$/);
  handle(telemetry, [message(headers, 2)], {}, [{ settlement: 'retry', error: new Error('x') }]);
  expect(exporter.getFinishedSpans()).toEqual([]);
  const duration = (await collect()).find(({ name }) => name === 'messaging.process.duration');
  expect(duration).toMatchObject({ value: 1, attributes: { 'error.type': 'Error' } });
});

it.each<[string, unknown]>([
  ['parent', { parent: 'sibling' }],
  ['parnet', { parnet: 'link' }],
  ['tracerProvider', { tracerProvider: {} }],
  ['meterProvider', { meterProvider: null }],
  ['propagator', { propagator: 'w3c' }],
  ['options', 'link'],
])('an option that is not valid is refused by its name: %s', (option, options) => {
  const create = (): Telemetry => openTelemetry(options as OpenTelemetryOptions);
  expect(create).toThrow(InvalidOptionError);
  expect(create).toThrow(option);
});
