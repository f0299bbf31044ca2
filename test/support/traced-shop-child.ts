import 'reflect-metadata';
import { createRequire } from 'node:module';
import { Controller, Inject, Module, Post } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';
import { metrics } from '@opentelemetry/api';
import { OTLPMetricExporter } from '@opentelemetry/exporter-metrics-otlp-http';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { registerInstrumentations } from '@opentelemetry/instrumentation';
import { HttpInstrumentation } from '@opentelemetry/instrumentation-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { MeterProvider, PeriodicExportingMetricReader } from '@opentelemetry/sdk-metrics';
import { BatchSpanProcessor, NodeTracerProvider } from '@opentelemetry/sdk-trace-node';
import { lastValueFrom } from 'rxjs';
import type { Observable } from 'rxjs';

import {
  ClientRedisStreams,
  RedisStreamsModule,
  ServerRedisStreams,
  StreamEventPattern,
  StreamMessagePattern,
  getRedisStreamsToken,
} from '../../lib/index.js';
import { openTelemetry } from '../../lib/opentelemetry.js';

// A program of its own, because an instrumentation cannot patch node:http inside of Jest. It serves routes over HTTP that emit
// and send, handles the messages itself, and exports to a collector. It writes its URL; when its
// input ends, it closes, exports the rest and ends.
export interface ShopInput {
  readonly connection: string;
  readonly group: string;
  /** The base of the URLs of a collector. */
  readonly collector: string;
}

export interface ShopLine {
  readonly url?: string;
  readonly booked?: boolean;
}

const report = (line: ShopLine): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);
const input = JSON.parse(process.argv[2] as string) as ShopInput;
const resource = resourceFromAttributes({ 'service.name': 'shop' });
const tracerProvider = new NodeTracerProvider({
  resource,
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: `${input.collector}/v1/traces` }))],
});
tracerProvider.register();
const reader = new PeriodicExportingMetricReader({
  exporter: new OTLPMetricExporter({ url: `${input.collector}/v1/metrics` }),
});
const meterProvider = new MeterProvider({ resource, readers: [reader] });
metrics.setGlobalMeterProvider(meterProvider);
registerInstrumentations({ instrumentations: [new HttpInstrumentation({ ignoreOutgoingRequestHook: () => true })] });
// The instrumentation patches what `require` returns.
createRequire(import.meta.url)('http');

@Controller()
class ShopController {
  readonly #client: ClientRedisStreams;

  constructor(@Inject(getRedisStreamsToken()) client: ClientRedisStreams) {
    this.#client = client;
  }

  @Post('orders')
  order(): Observable<unknown> {
    return this.#client.emit('orders', { item: 'tea' });
  }

  @Post('sum')
  sum(): Observable<number> {
    return this.#client.send<number>('sum', [1, 2]);
  }

  @StreamEventPattern('orders')
  async pay(order: unknown): Promise<void> {
    await lastValueFrom(this.#client.emit('payments', order));
  }

  @StreamEventPattern('payments')
  book(): void {
    report({ booked: true });
  }

  @StreamMessagePattern('sum')
  add(terms: number[]): number {
    return terms.reduce((sum, term) => sum + term, 0);
  }
}

@Module({
  imports: [
    RedisStreamsModule.forRoot({ connection: input.connection, group: input.group, telemetry: openTelemetry() }),
  ],
  controllers: [ShopController],
})
class ShopModule {}

async function run(): Promise<void> {
  const app = await NestFactory.create(ShopModule, { logger: ['error'] });
  app.connectMicroservice<MicroserviceOptions>({ strategy: app.get(ServerRedisStreams) });
  await app.startAllMicroservices();
  await app.listen(0, '127.0.0.1');
  report({ url: await app.getUrl() });
  process.stdin.resume().on('close', () => void close(app));
}

async function close(app: { close(): Promise<unknown> }): Promise<void> {
  await app.close();
  await Promise.all([tracerProvider.shutdown(), meterProvider.shutdown()]);
  process.exit(0);
}

void run();
