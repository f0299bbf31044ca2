import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals';
import { context, propagation, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';
import { firstValueFrom, lastValueFrom, NEVER, of, toArray } from 'rxjs';

import { RedisStreamer, RedisStreamsDeadLetterException, RedisStreamsRecordBuilder } from '../../lib/index.js';
import { openTelemetry } from '../../lib/opentelemetry.js';
import { useChildProgram } from '../support/child-program.js';
import { onBatch, onEvent, onRequest } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { useOtlpReceiver } from '../support/otlp-receiver.js';
import { uniqueName } from '../support/redis.js';
import type { ShopInput, ShopLine } from '../support/traced-shop-child.js';
import { until } from '../support/until.js';

const nest = useNest();
const telemetry = openTelemetry();
const exporter = new InMemorySpanExporter();

beforeAll(() => {
  new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register();
});
afterEach(() => exporter.reset());
afterAll(() => {
  trace.disable();
  context.disable();
  propagation.disable();
});

/** Waits for the spans of a name, in the order in which they ended. */
async function spansOf(name: string, count = 1): Promise<ReadableSpan[]> {
  const found = (): ReadableSpan[] => exporter.getFinishedSpans().filter((span) => span.name === name);
  await until(`${count} spans '${name}'`, () => found().length === count);
  return found();
}

async function spanOf(name: string): Promise<ReadableSpan> {
  const [span] = await spansOf(name);
  return span as ReadableSpan;
}

const idOf = (span: ReadableSpan | undefined): string | undefined => span?.spanContext().spanId;
const traceOf = (span: ReadableSpan | undefined): string | undefined => span?.spanContext().traceId;
const parentOf = (span: ReadableSpan | undefined): string | undefined => span?.parentSpanContext?.spanId;
const eventsOf = (span: ReadableSpan | undefined): string[] => span?.events.map(({ name }) => name) ?? [];

/** Ends a trace of the application around the work. */
async function traced<T>(work: () => Promise<T>): Promise<{ result: T; spanId: string }> {
  return trace.getTracer('application').startActiveSpan('application', async (span) => {
    const result = await work();
    span.end();
    return { result, spanId: span.spanContext().spanId };
  });
}

describe('one trace', () => {
  it('goes through emit, handler, emit and handler', async () => {
    const [orders, payments] = [uniqueName('orders'), uniqueName('payments')];
    const client = nest.client({ telemetry });
    const pay = async (order: unknown): Promise<void> => void (await firstValueFrom(client.emit(payments, order)));
    await nest.serve([onEvent(orders, pay), onEvent(payments, () => undefined)], { telemetry });

    const { result, spanId } = await traced(() => firstValueFrom(client.emit(orders, 'tea')));
    const names = [`send ${orders}`, `process ${orders}`, `send ${payments}`, `process ${payments}`];
    const chain: ReadableSpan[] = [];
    for (const name of names) chain.push(await spanOf(name));
    expect(chain.map(parentOf)).toEqual([spanId, ...chain.slice(0, 3).map(idOf)]);
    expect(new Set(chain.map(traceOf)).size).toBe(1);
    expect(chain.map(({ kind }) => kind)).toEqual([
      SpanKind.PRODUCER,
      SpanKind.CONSUMER,
      SpanKind.PRODUCER,
      SpanKind.CONSUMER,
    ]);
    for (const span of chain.slice(0, 2)) expect(span.attributes['messaging.message.id']).toBe(result.id);
  });

  it('goes through send and the handler of the request; the answers have no spans', async () => {
    const pattern = uniqueName('sum');
    const client = nest.client({ telemetry });
    await nest.serve(onRequest(pattern, () => of(1, 2, 3)), { telemetry }); // prettier-ignore

    const { result, spanId } = await traced(() => lastValueFrom(client.send(pattern, {}).pipe(toArray())));
    const request = await spanOf(`request ${pattern}`);
    const send = await spanOf(`send ${pattern}`);
    const handling = await spanOf(`process ${pattern}`);
    expect(result).toEqual([1, 2, 3]);
    expect([parentOf(request), parentOf(send), parentOf(handling)]).toEqual([spanId, idOf(request), idOf(send)]);
    expect(request.kind).toBe(SpanKind.CLIENT);
    expect(request.attributes).not.toHaveProperty('messaging.redis.cancelled');
    expect(exporter.getFinishedSpans()).toHaveLength(4);
  });

  it('stays with a message that is delayed', async () => {
    const pattern = uniqueName('reminders');
    const client = nest.client({ telemetry });
    await nest.serve(onEvent(pattern, () => undefined), { telemetry }); // prettier-ignore
    const record = new RedisStreamsRecordBuilder('later').setDelay(50).build();
    await firstValueFrom(client.emit(pattern, record));
    const send = await spanOf(`send ${pattern}`);
    expect(send.attributes).toMatchObject({ 'messaging.redis.delayed': true });
    expect(parentOf(await spanOf(`process ${pattern}`))).toBe(idOf(send));
  });

  it('stays with a message through retry, dead letter and redrive', async () => {
    const pattern = uniqueName('orders');
    const client = nest.client({ telemetry });
    let isMended = false;
    const handle = (): void => {
      if (!isMended) throw new TypeError('broken');
    };
    await nest.serve(onEvent(pattern, handle), {
      telemetry,
      retry: { attempts: 2, delay: 10 },
      autoClaimInterval: 50,
      autoClaimIdle: 500,
    });
    await firstValueFrom(client.emit(pattern, 'tea'));
    const [first, second] = await spansOf(`process ${pattern}`, 2);
    const dead = `${pattern}.dead`;
    await until('it is a dead letter', async () => (await nest.redis.xlen(dead)) === 1);
    await nest.untilSettled(pattern);
    isMended = true;
    await (await client.unwrap().createManager()).redrive(dead);
    const [, , third] = await spansOf(`process ${pattern}`, 3);

    const send = await spanOf(`send ${pattern}`);
    expect([first, second, third].map(parentOf)).toEqual([idOf(send), idOf(send), idOf(send)]);
    expect(eventsOf(first)).toEqual(['exception', 'messaging.redis.retry']);
    expect(eventsOf(second)).toEqual(['messaging.redis.redelivery', 'exception', 'messaging.redis.dead_letter']);
    expect(eventsOf(third)).toEqual([]);
    expect(first?.attributes).toMatchObject({ 'error.type': 'TypeError', 'messaging.redis.delivery_count': 1 });
    expect(second?.attributes).toMatchObject({ 'error.type': 'TypeError', 'messaging.redis.delivery_count': 2 });
    expect(second?.events.at(-1)?.attributes).toEqual({ 'messaging.redis.dead_letter.reason': 'failed 2 times' });
    expect([first, second, third].map((span) => span?.status.code)).toEqual([
      SpanStatusCode.ERROR,
      SpanStatusCode.ERROR,
      SpanStatusCode.UNSET,
    ]);
  });

  it('has the baggage of its beginning in each handler', async () => {
    const [first, second] = [uniqueName('first'), uniqueName('second')];
    const client = nest.client({ telemetry });
    const seen: unknown[] = [];
    const note = (): void => void seen.push(propagation.getActiveBaggage()?.getEntry('tenant')?.value);
    const forward = async (): Promise<void> => {
      note();
      await firstValueFrom(client.emit(second, 1));
    };
    await nest.serve([onEvent(first, forward), onEvent(second, note)], { telemetry });
    const baggage = propagation.createBaggage({ tenant: { value: 'acme' } });
    await context.with(propagation.setBaggage(context.active(), baggage), () => firstValueFrom(client.emit(first, 1)));
    await until('both have run', () => seen.length === 2);
    expect(seen).toEqual(['acme', 'acme']);
    const [entry] = await nest.entries(first);
    expect(entry?.fields).toMatchObject({ 'h:baggage': 'tenant=acme', 'h:traceparent': expect.any(String) });
  });
});

it('a header of the trace that the caller set is kept', async () => {
  const pattern = uniqueName('orders');
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  await nest.serve(onEvent(pattern, () => undefined), { telemetry }); // prettier-ignore
  const record = new RedisStreamsRecordBuilder('tea').setHeader('traceparent', traceparent).build();
  await firstValueFrom(nest.client({ telemetry }).emit(pattern, record));
  expect(parentOf(await spanOf(`process ${pattern}`))).toBe('b7ad6b7169203331');
  expect((await spanOf(`send ${pattern}`)).links.map((link) => link.context.spanId)).toEqual(['b7ad6b7169203331']);
});

it('a batch is one span with a link to each of its messages', async () => {
  const pattern = uniqueName('clicks');
  await nest.serve(
    onBatch(pattern, () => undefined, { batch: { size: 3, timeout: 10_000 } }),
    { telemetry },
  );
  await firstValueFrom(nest.client({ telemetry }).emitBatch(pattern, [1, 2, 3]));
  const sends = await spansOf(`send ${pattern}`, 3);
  const batch = await spanOf(`process ${pattern}`);
  expect(new Set(batch.links.map((link) => link.context.spanId))).toEqual(new Set(sends.map(idOf)));
  expect(batch.attributes['messaging.batch.message_count']).toBe(3);
  expect(parentOf(batch)).toBeUndefined();
});

describe('the span of a request', () => {
  it('ends when its subscriber gives up, without an error', async () => {
    const pattern = uniqueName('slow');
    await nest.serve(onRequest(pattern, () => NEVER), { telemetry, shutdownTimeout: 10 }); // prettier-ignore
    const subscription = nest.client({ telemetry }).send(pattern, {}).subscribe();
    await spanOf(`send ${pattern}`);
    subscription.unsubscribe();
    const request = await spanOf(`request ${pattern}`);
    expect(request.status.code).toBe(SpanStatusCode.UNSET);
    expect(request.attributes['messaging.redis.cancelled']).toBe(true);
  });

  it('is not that of one that was given up, when firstValueFrom takes its only answer', async () => {
    const pattern = uniqueName('sum');
    await nest.serve(onRequest(pattern, () => 3), { telemetry }); // prettier-ignore
    expect(await firstValueFrom(nest.client({ telemetry }).send(pattern, {}))).toBe(3);
    expect((await spanOf(`request ${pattern}`)).attributes).not.toHaveProperty('messaging.redis.cancelled');
  });

  it('has the error of the handler, of which the handler has the exception', async () => {
    const pattern = uniqueName('refused');
    const refuse = (): never => {
      throw new RedisStreamsDeadLetterException('not here');
    };
    await nest.serve(onRequest(pattern, refuse), { telemetry });
    await expect(firstValueFrom(nest.client({ telemetry }).send(pattern, {}))).rejects.toBeDefined();
    expect((await spanOf(`request ${pattern}`)).status.code).toBe(SpanStatusCode.ERROR);
    const handling = await spanOf(`process ${pattern}`);
    expect(handling.status.code).toBe(SpanStatusCode.ERROR);
    expect(eventsOf(handling)).toEqual(['exception']);
  });
});

it('without Nest, next() links to what was sent, and the application continues the trace from the headers', async () => {
  const streamKey = uniqueName('readings');
  const streamer = await RedisStreamer.connect(nest.url, { telemetry });
  nest.closeLater({ close: () => streamer.disconnect() });
  const producer = await streamer.createProducer(streamKey);
  const { id } = await producer.send('21');
  const consumer = await streamer.createConsumer(streamKey, {
    mode: 'resumable',
    group: 'g',
    autoStreamReset: 'earliest',
  });
  const message = await consumer.next();
  const send = await spanOf(`send ${streamKey}`);
  const receive = await spanOf(`receive ${streamKey}`);
  expect(receive.kind).toBe(SpanKind.CLIENT);
  expect(receive.links.map((link) => link.context.spanId)).toEqual([idOf(send)]);
  expect(receive.attributes).toMatchObject({ 'messaging.message.id': id, 'messaging.consumer.group.name': 'g' });
  const own = propagation.extract(context.active(), message.headers);
  expect(trace.getSpanContext(own)?.spanId).toBe(idOf(send));
});

describe('a collector', () => {
  const receiver = useOtlpReceiver();
  const start = useChildProgram<ShopInput, ShopLine>('traced-shop-child.ts');
  const [SERVER, CLIENT, PRODUCER, CONSUMER] = [2, 3, 4, 5];

  it('gets one trace from the HTTP request to the last handler, and the four metrics of the conventions', async () => {
    const lines: ShopLine[] = [];
    const child = await start({ connection: nest.url, group: 'shop', collector: receiver.endpoint }, (line) =>
      lines.push(line),
    );
    await until('it listens', () => lines.length > 0);
    const post = async (path: string): Promise<string> =>
      (await fetch(`${lines[0]?.url}${path}`, { method: 'POST', headers: { connection: 'close' } })).text();
    await post('/orders');
    expect(await post('/sum')).toBe('3');
    await until('the payment is booked', () => lines.some(({ booked }) => booked));
    child.process.stdin?.end();
    expect(await child.ended).toBe(0);

    const chainOf = (name: string): Array<[string, number]> => {
      const chain: Array<[string, number]> = [];
      let span = receiver.spans.find((each) => each.name === name);
      for (; span; span = receiver.spans.find(({ spanId }) => spanId === span?.parentSpanId)) {
        chain.unshift([span.name, span.kind]);
      }
      return chain;
    };
    const http = (name: string): unknown => expect.stringContaining(name);
    expect(chainOf('process payments').filter(([, kind]) => kind !== 1)).toEqual([
      [http('POST'), SERVER],
      ['send orders', PRODUCER],
      ['process orders', CONSUMER],
      ['send payments', PRODUCER],
      ['process payments', CONSUMER],
    ]);
    expect(chainOf('process sum').filter(([, kind]) => kind !== 1)).toEqual([
      [http('POST'), SERVER],
      ['request sum', CLIENT],
      ['send sum', PRODUCER],
      ['process sum', CONSUMER],
    ]);
    const { hostname, port } = new URL(nest.url);
    const server = { 'server.address': hostname, 'server.port': Number(port) };
    const own = receiver.spans.filter(({ scope }) => scope === 'nestjs-redis-streams');
    expect(own).toHaveLength(7);
    for (const { resource, attributes, status } of own) {
      expect(resource).toMatchObject({ 'service.name': 'shop' });
      expect(attributes).toMatchObject({ 'messaging.system': 'redis', ...server });
      expect(status.code).not.toBe(2);
    }
    expect(own.find(({ name }) => name === 'process orders')?.attributes).toEqual({
      ...server,
      'messaging.system': 'redis',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': 'orders',
      'messaging.consumer.group.name': 'shop',
      'messaging.client.id': expect.any(String),
      'messaging.message.id': expect.stringMatching(/^\d+-\d+$/),
      'messaging.message.body.size': 14,
      'messaging.redis.delivery_count': 1,
    });

    const metrics = receiver.metrics.filter(({ name }) => name.startsWith('messaging.'));
    expect(metrics.map(({ name, unit, type, isMonotonic }) => [name, unit, type, isMonotonic])).toEqual([
      ['messaging.client.operation.duration', 's', 'histogram', undefined],
      ['messaging.process.duration', 's', 'histogram', undefined],
      ['messaging.client.sent.messages', '{message}', 'sum', true],
      ['messaging.client.consumed.messages', '{message}', 'sum', true],
    ]);
    const counts = (name: string): Record<string, number> =>
      Object.fromEntries(
        metrics
          .flatMap((metric) => (metric.name === name ? metric.points : []))
          .map(({ attributes: { 'messaging.operation.name': operation, 'messaging.destination.name': to }, value }) => [
            `${operation} ${to}`,
            value,
          ]),
      );
    expect(counts('messaging.client.operation.duration')).toEqual({
      'send orders': 1,
      'send payments': 1,
      'send sum': 1,
      'request sum': 1,
    });
    expect(counts('messaging.client.sent.messages')).toEqual({ 'send orders': 1, 'send payments': 1, 'send sum': 1 });
    const processed = { 'process orders': 1, 'process payments': 1, 'process sum': 1 };
    expect(counts('messaging.process.duration')).toEqual(processed);
    expect(counts('messaging.client.consumed.messages')).toEqual(processed);
    expect(metrics[1]?.points[0]?.bounds?.slice(0, 3)).toEqual([0.005, 0.01, 0.025]);
    expect(metrics[1]?.points[0]?.attributes).toMatchObject({ ...server, 'messaging.consumer.group.name': 'shop' });
  });
});
