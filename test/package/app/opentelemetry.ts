import assert from 'node:assert/strict';
import { context, propagation, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { RedisStreamer } from 'nestjs-redis-streams/engine';
import { openTelemetry } from 'nestjs-redis-streams/opentelemetry';

// Sends and receives one message through a real Redis, and looks at the spans of both.
const stream = process.env['CHECK_STREAM'] ?? 'package-check';
const exporter = new InMemorySpanExporter();
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register();

async function main(): Promise<void> {
  const streamer = await RedisStreamer.connect(process.env['CHECK_REDIS_URL'], { telemetry: openTelemetry() });
  const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
  const producer = await streamer.createProducer(stream);
  await producer.send('hello');
  const message = await consumer.next();
  await streamer.disconnect();

  const [sent, received] = [`send ${stream}`, `receive ${stream}`].map((name) =>
    exporter.getFinishedSpans().find((span) => span.name === name),
  );
  assert.ok(sent && received);
  assert.equal(received.links[0]?.context.spanId, sent.spanContext().spanId);
  const continued = propagation.extract(context.active(), message.headers);
  assert.equal(trace.getSpanContext(continued)?.traceId, sent.spanContext().traceId);
  console.log('message received');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
