import { ROOT_CONTEXT, SpanKind, context, propagation, trace } from '@opentelemetry/api';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import type { PushMetricExporter } from '@opentelemetry/sdk-metrics';
import {
  BatchSpanProcessor,
  NodeTracerProvider,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-node';
import type { SpanExporter } from '@opentelemetry/sdk-trace-node';
import { Registry } from 'prom-client';

import type { Telemetry } from '../../lib/index.js';
import { openTelemetry } from '../../lib/opentelemetry.js';
import { prometheus } from '../../lib/prometheus.js';
import { redisStreams } from '../contenders/nest-app.js';
import type { Entrant, Row, Target } from '../row.js';
import { emitting } from './nest-emit.js';

const NONE = 'no telemetry';
const PROMETHEUS = 'prometheus()';
const NO_SDK = 'openTelemetry() without an SDK';
const SAMPLED = 'openTelemetry(), 1 of 100 traces';
const TRACED = 'openTelemetry(), every trace';

const LOAD = { events: 40_000, inFlight: 1_000 };

/** The work of `nest-emit`, 200 at a time. The telemetry is made in the process of the entrant. */
function followed(name: string, stream: string, telemetry: () => Telemetry[]): Entrant {
  return {
    name,
    open: (setting) => {
      const options = { batchSize: 200, prefetch: 1_000, concurrency: 200, telemetry: telemetry() };
      return emitting(name, stream, redisStreams(options), LOAD).open(setting);
    },
  };
}

/** An SDK as services have one, but for its exporters, which drop what they are given. */
function sdk(share: number): { tracerProvider: NodeTracerProvider; meterProvider: MeterProvider } {
  const shutdown = (): Promise<void> => Promise.resolve();
  const forceFlush = shutdown;
  const spans: SpanExporter = { export: (_, done) => done({ code: 0 }), shutdown, forceFlush };
  const metrics: PushMetricExporter = { export: (_, done) => done({ code: 0 }), shutdown, forceFlush };
  const tracerProvider = new NodeTracerProvider({
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(share) }),
    spanProcessors: [new BatchSpanProcessor(spans)],
  });
  tracerProvider.register();
  return {
    tracerProvider,
    meterProvider: new MeterProvider({ readers: [new PeriodicExportingMetricReader({ exporter: metrics })] }),
  };
}

const setter = { set: (headers: Record<string, string>, name: string, value: string) => void (headers[name] = value) };
const getter = {
  get: (headers: Readonly<Record<string, string>>, name: string) => headers[name],
  keys: (headers: object) => Object.keys(headers),
};

/** The calls of the SDK that two spans, two durations and one trace need, and nothing else: no outcome, no event, no batch. */
function bare(share: number): Telemetry {
  const { tracerProvider, meterProvider } = sdk(share);
  const tracer = tracerProvider.getTracer('bare');
  const sent = meterProvider.getMeter('bare').createHistogram('sent', { unit: 's' });
  const handled = meterProvider.getMeter('bare').createHistogram('handled', { unit: 's' });
  const attributes = {
    'messaging.system': 'redis',
    'messaging.operation.name': 'send',
    'messaging.destination.name': 'orders',
    'messaging.consumer.group.name': 'orders-service',
    'server.address': 'localhost',
    'server.port': 6379,
  };
  return {
    startSend: ({ headers }) => {
      const span = tracer.startSpan('send', { kind: SpanKind.PRODUCER, attributes });
      propagation.inject(trace.setSpan(context.active(), span), headers, setter);
      return {
        end: (_, duration) => {
          sent.record(duration / 1_000, attributes);
          span.end();
        },
      };
    },
    startProcess: ([message]) => {
      const parent = propagation.extract(ROOT_CONTEXT, message?.headers ?? {}, getter);
      const span = tracer.startSpan('process', { kind: SpanKind.CONSUMER, attributes }, parent);
      const own = trace.setSpan(parent, span);
      return {
        run: (work) => context.with(own, work),
        end: (_, duration) => {
          handled.record(duration / 1_000, attributes);
          span.end();
        },
      };
    },
  };
}

const scraped = (): Telemetry => prometheus({ registry: new Registry() });
const traced = (share: number): Telemetry => openTelemetry(sdk(share));

const WITHOUT_SDK: readonly Target[] = [
  { entrant: PROMETHEUS, metric: 'rate', atLeast: 0.8 },
  { entrant: NO_SDK, metric: 'rate', atLeast: 0.8 },
];

export const row: Row = {
  title: 'Nest: telemetry on the way from emit() to the handler',
  note: `40,000 events of nest-emit at 200 at a time, without telemetry and with it in client and server. OpenTelemetry's SDK has a batch span
processor and a periodic reader, whose exporters drop everything. "The SDK's calls alone" are two spans, two durations and one trace
for each message, made without this package: what remains for openTelemetry() is the difference.`,
  metrics: ['rate', 'cpu'],
  baseline: NONE,
  entrants: [
    followed(NONE, 'none', () => []),
    followed(PROMETHEUS, 'prometheus', () => [scraped()]),
    followed(NO_SDK, 'no-sdk', () => [openTelemetry()]),
    followed("the SDK's calls alone, 1 of 100 traces", 'bare-sampled', () => [bare(0.01)]),
    followed(SAMPLED, 'sampled', () => [traced(0.01)]),
    followed("the SDK's calls alone, every trace", 'bare-traced', () => [bare(1)]),
    followed(TRACED, 'traced', () => [traced(1)]),
    followed('both, every trace', 'both', () => [traced(1), scraped()]),
  ],
  targets: WITHOUT_SDK,
  // The calls of the SDK alone leave 0.31 to 0.35 of the rate, whatever is sampled.
  goals: [
    ...WITHOUT_SDK,
    { entrant: SAMPLED, metric: 'rate', atLeast: 0.25 },
    { entrant: TRACED, metric: 'rate', atLeast: 0.25 },
  ],
};
