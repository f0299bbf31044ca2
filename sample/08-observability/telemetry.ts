import { Injectable } from '@nestjs/common';
import type { CallHandler, ExecutionContext, NestInterceptor } from '@nestjs/common';
import { SpanKind, context, trace } from '@opentelemetry/api';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { Registry } from 'prom-client';
import { Observable } from 'rxjs';

import type { Telemetry } from '../../lib/index.js';
import { openTelemetry } from '../../lib/opentelemetry.js';
import { prometheus } from '../../lib/prometheus.js';

export const keyPrefix = process.env['KEY_PREFIX'];

/** In place of a collector: the spans of all services, for the tree that main.ts prints. */
export const spans = new InMemorySpanExporter();

/** The services of this sample are one process, so they have one registry. */
export const registry = new Registry();

/** Registers the propagator and the context manager, which an application gets from `new NodeSDK().start()`. */
new NodeTracerProvider().register();

/** What one service gives to the option `telemetry`. In an application: `[openTelemetry(), prometheus()]`. */
export function telemetryOf(service: string): Telemetry[] {
  return [openTelemetry({ tracerProvider: providerOf(service) }), prometheus({ registry })];
}

function providerOf(service: string): NodeTracerProvider {
  const resource = resourceFromAttributes({ 'service.name': service });
  return new NodeTracerProvider({ resource, spanProcessors: [new SimpleSpanProcessor(spans)] });
}

const tracer = providerOf('gateway').getTracer('http');

/** In place of @opentelemetry/instrumentation-http, which has to be loaded before the application. */
@Injectable()
export class HttpSpan implements NestInterceptor {
  intercept(http: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { method, path } = http.switchToHttp().getRequest<{ method: string; path: string }>();
    const span = tracer.startSpan(`${method} ${path}`, { kind: SpanKind.SERVER });
    return new Observable((subscriber) => {
      subscriber.add(() => span.end());
      context.with(trace.setSpan(context.active(), span), () => next.handle().subscribe(subscriber));
    });
  }
}
