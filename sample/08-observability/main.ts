import 'reflect-metadata';
import type { INestApplication, Type } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import type { ReadableSpan } from '@opentelemetry/sdk-trace-node';

import { ServerRedisStreams } from '../../lib/index.js';
import { until } from '../../test/support/until.js';
import { GatewayModule } from './gateway.js';
import { OrdersModule } from './orders.js';
import { PaymentsModule } from './payments.js';
import { registry, spans } from './telemetry.js';

// Three services, which in production are three processes.
const services = [await serve(PaymentsModule), await serve(OrdersModule)];
const gateway = await NestFactory.create(GatewayModule, { logger: ['error', 'warn'], forceCloseConnections: true });
await gateway.listen(Number(process.env['PORT'] ?? 0), '127.0.0.1');
const url = await gateway.getUrl();

for (const order of [
  { id: 'A', sum: 20 },
  { id: 'B', sum: 5_000 },
]) {
  const headers = { 'content-type': 'application/json' };
  await fetch(`${url}/orders`, { method: 'POST', headers, body: JSON.stringify(order) });
}
// Order A is paid at the second attempt, order B becomes a dead letter.
await until('order A is paid', () => spansNamed('process payments').length === 3);
const isStored = /dead_letters_total\{stream="payments".*\} 1/;
await until('order B is a dead letter', async () => isStored.test(await registry.metrics()));

for (const root of spans.getFinishedSpans().filter(({ parentSpanContext }) => !parentSpanContext)) print(root, '');

console.log('\nFrom /metrics:');
const metrics = await (await fetch(`${url}/metrics`)).text();
const shown =
  /^redis_streams_(messages_(sent|handled)_total|dead_letters_total)\{.*\} [1-9]\d*$|^redis_streams_group_lag.*$/gm;
for (const [line] of metrics.matchAll(shown)) console.log(line);

if (process.env['PORT']) {
  console.log(`\n${url}/metrics is served until Ctrl-C`);
  await new Promise((resolve) => process.once('SIGINT', resolve));
}
await gateway.close();
await Promise.all(services.map((service) => service.close()));

async function serve(module: Type): Promise<INestApplication> {
  const app = await NestFactory.create(module, { logger: false });
  app.connectMicroservice({ strategy: app.get(ServerRedisStreams) });
  await app.startAllMicroservices();
  return app.init();
}

function spansNamed(name: string): ReadableSpan[] {
  return spans.getFinishedSpans().filter((span) => span.name === name);
}

/** A span, and below it those that it has caused, in whichever service. */
function print(span: ReadableSpan, indent: string): void {
  const { name, kind, status, resource, events } = span;
  const error = status.code === SpanStatusCode.ERROR ? ` ✗ ${status.message}` : '';
  const happened = events.filter((event) => event.name !== 'exception').map((event) => ` (${event.name})`);
  console.log(
    `${indent}${name} [${SpanKind[kind]}, ${String(resource.attributes['service.name'])}]${error}${happened.join('')}`,
  );
  const children = spans
    .getFinishedSpans()
    .filter(({ parentSpanContext }) => parentSpanContext?.spanId === span.spanContext().spanId);
  for (const child of children) print(child, `${indent}  `);
}
