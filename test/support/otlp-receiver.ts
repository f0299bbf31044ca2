import { once } from 'node:events';
import { createServer } from 'node:http';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll } from '@jest/globals';

type Value = string | number | boolean;

/** A span as a collector gets it. Kinds: 1 INTERNAL, 2 SERVER, 3 CLIENT, 4 PRODUCER, 5 CONSUMER. Status: 2 ERROR. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: number;
  readonly status: { readonly code: number };
  readonly attributes: Readonly<Record<string, Value>>;
  readonly resource: Readonly<Record<string, Value>>;
  readonly scope: string;
}

export interface ReceivedMetric {
  readonly name: string;
  readonly unit: string;
  readonly type: 'sum' | 'histogram';
  readonly isMonotonic: boolean | undefined;
  readonly points: ReadonlyArray<{
    readonly attributes: Readonly<Record<string, Value>>;
    readonly value: number;
    readonly bounds: readonly number[] | undefined;
  }>;
  readonly resource: Readonly<Record<string, Value>>;
}

interface KeyValue {
  readonly key: string;
  readonly value: { stringValue?: string; intValue?: number | string; doubleValue?: number; boolValue?: boolean };
}

interface WireSpan extends Omit<ReceivedSpan, 'attributes'> {
  readonly attributes: KeyValue[];
}

interface WirePoint {
  readonly attributes: KeyValue[];
  readonly asDouble?: number;
  readonly asInt?: number | string;
  readonly count?: number | string;
  readonly explicitBounds?: number[];
}

interface WireData {
  readonly dataPoints: WirePoint[];
  readonly isMonotonic?: boolean;
}

interface WireMetric {
  readonly name: string;
  readonly unit: string;
  readonly sum?: WireData;
  readonly histogram?: WireData;
}

interface OfResource {
  readonly resource: { readonly attributes: KeyValue[] };
}

/** What the OTLP exporters over HTTP post as JSON. */
interface Posted {
  readonly resourceSpans?: ReadonlyArray<
    OfResource & {
      readonly scopeSpans: ReadonlyArray<{ readonly scope: { name: string }; readonly spans: WireSpan[] }>;
    }
  >;
  readonly resourceMetrics?: ReadonlyArray<
    OfResource & {
      readonly scopeMetrics: ReadonlyArray<{ readonly metrics: WireMetric[] }>;
    }
  >;
}

/** A collector on loopback, which keeps what it gets. */
export class OtlpReceiver {
  readonly spans: ReceivedSpan[] = [];
  /** Of the last export. */
  metrics: ReceivedMetric[] = [];
  readonly #server = createServer((request, response) => {
    void bodyOf(request).then((posted) => {
      this.#keep(posted);
      response.writeHead(200, { 'content-type': 'application/json', connection: 'close' }).end('{}');
    });
  });

  /** The base of its URLs. */
  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async start(): Promise<void> {
    await once(this.#server.listen(0, '127.0.0.1'), 'listening');
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await once(this.#server.close(), 'close');
  }

  #keep({ resourceSpans = [], resourceMetrics = [] }: Posted): void {
    for (const { resource, scopeSpans } of resourceSpans) {
      for (const { scope, spans } of scopeSpans) {
        for (const span of spans) {
          const attributes = asRecord(span.attributes);
          this.spans.push({ ...span, attributes, resource: asRecord(resource.attributes), scope: scope.name });
        }
      }
    }
    for (const { resource, scopeMetrics } of resourceMetrics) {
      const metrics = scopeMetrics.flatMap((scope) => scope.metrics);
      this.metrics = metrics.map((metric) => asMetric(metric, asRecord(resource.attributes)));
    }
  }
}

/** Starts a receiver for a test file. */
export function useOtlpReceiver(): OtlpReceiver {
  const receiver = new OtlpReceiver();
  beforeAll(() => receiver.start());
  afterAll(() => receiver.stop());
  return receiver;
}

function asMetric({ name, unit, sum, histogram }: WireMetric, resource: ReceivedMetric['resource']): ReceivedMetric {
  const { dataPoints = [], isMonotonic } = sum ?? histogram ?? {};
  return {
    name,
    unit,
    type: sum ? 'sum' : 'histogram',
    isMonotonic,
    points: dataPoints.map(({ attributes, asDouble, asInt, count, explicitBounds }) => ({
      attributes: asRecord(attributes),
      value: Number(asDouble ?? asInt ?? count),
      bounds: explicitBounds,
    })),
    resource,
  };
}

function asRecord(attributes: readonly KeyValue[]): Readonly<Record<string, Value>> {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, intValue, doubleValue, boolValue } }) => [
      key,
      stringValue ?? boolValue ?? Number(intValue ?? doubleValue),
    ]),
  );
}

async function bodyOf(request: IncomingMessage): Promise<Posted> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return JSON.parse(Buffer.concat(chunks).toString()) as Posted;
}
