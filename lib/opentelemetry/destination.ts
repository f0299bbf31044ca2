import type { Attributes } from '@opentelemetry/api';

import type { TelemetrySource } from '../engine/telemetry/telemetry.js';
import { ATTRIBUTES, OTHER_ERROR } from './conventions.js';
import type { SpanDescription } from './conventions.js';

/** Streams of one pattern, or patterns of one streamer, for which attributes are kept. */
const MAX_KEPT = 1_000;
/** Names of errors belong to the application, which may put an id into one. */
const MAX_ERROR_TYPES = 50;

/** Who reads, where it is a consumer. */
export interface Reader {
  readonly group: string | undefined;
  readonly consumer: string | undefined;
}

const NO_READER: Reader = Object.freeze({ group: undefined, consumer: undefined });

/**
 * An operation on one stream of one server: the name of its spans, and the attributes of spans and metrics. These are made
 * once, because making them costs as much as a span. The attributes of metrics have nothing that is unbounded.
 */
export class Destination {
  readonly spanName: string;
  readonly kind: SpanDescription['kind'];
  /** Without the shard. */
  readonly attributes: Attributes;
  /** Of an operation that succeeded. The name of an operation tells its type, and each attribute of a metric has its cost. */
  readonly metricAttributes: Attributes;
  readonly #reader: Reader;
  readonly #ofShards = new Map<number, Attributes>();
  readonly #ofErrors = new Map<string, Attributes>();

  constructor(
    { operation, type, kind }: SpanDescription,
    source: TelemetrySource,
    streamKey: string | undefined,
    template: string | undefined,
    reader: Reader,
  ) {
    const place = template ?? streamKey;
    this.spanName = place === undefined ? operation : `${operation} ${place}`;
    this.kind = kind;
    this.#reader = reader;
    const base = defined({
      [ATTRIBUTES.operation]: operation,
      [ATTRIBUTES.group]: reader.group,
      [ATTRIBUTES.system]: 'redis',
      [ATTRIBUTES.serverAddress]: source.server?.host,
      [ATTRIBUTES.serverPort]: source.server?.port,
    });
    this.attributes = {
      ...base,
      ...defined({
        [ATTRIBUTES.operationType]: type,
        [ATTRIBUTES.destination]: streamKey,
        [ATTRIBUTES.template]: template,
        [ATTRIBUTES.client]: reader.consumer,
      }),
    };
    this.metricAttributes = sorted({
      ...base,
      ...(template === undefined
        ? defined({ [ATTRIBUTES.destination]: streamKey })
        : { [ATTRIBUTES.template]: template }),
    });
  }

  isOf({ group, consumer }: Reader): boolean {
    return this.#reader.group === group && this.#reader.consumer === consumer;
  }

  attributesOf(shardId: number | undefined): Attributes {
    if (shardId === undefined) return this.attributes;
    let attributes = this.#ofShards.get(shardId);
    if (!attributes) {
      attributes = { ...this.attributes, [ATTRIBUTES.partition]: String(shardId) };
      put(this.#ofShards, shardId, attributes);
    }
    return attributes;
  }

  /** @param errorType undefined when the operation succeeded */
  metricAttributesOf(errorType: string | undefined): Attributes {
    if (errorType === undefined) return this.metricAttributes;
    const type = this.#ofErrors.size < MAX_ERROR_TYPES || this.#ofErrors.has(errorType) ? errorType : OTHER_ERROR;
    let attributes = this.#ofErrors.get(type);
    if (!attributes) {
      attributes = sorted({ ...this.metricAttributes, [ATTRIBUTES.errorType]: type });
      this.#ofErrors.set(type, attributes);
    }
    return attributes;
  }
}

/** The {@link Destination}s of one operation. Streams may come and go without end, so a full list is emptied. */
export class Destinations {
  readonly #operation: SpanDescription;
  readonly #bySource = new WeakMap<TelemetrySource, Map<string, Map<string, Destination>>>();

  constructor(operation: SpanDescription) {
    this.#operation = operation;
  }

  /** @param streamKey undefined where several streams are meant */
  of(source: TelemetrySource, streamKey: string | undefined, reader = NO_READER): Destination {
    return this.ofPattern(source, streamKey ?? '', streamKey, reader);
  }

  /** @param streamKey undefined where several streams of the pattern are meant */
  ofPattern(source: TelemetrySource, pattern: string, streamKey: string | undefined, reader: Reader): Destination {
    let patterns = this.#bySource.get(source);
    if (!patterns) this.#bySource.set(source, (patterns = new Map()));
    let streams = patterns.get(pattern);
    if (!streams) put(patterns, pattern, (streams = new Map()));
    const known = streams.get(streamKey ?? '');
    if (known?.isOf(reader)) return known;
    const isTemplate = pattern !== '' && (streamKey === undefined || /[*>]/.test(pattern));
    const template = isTemplate && pattern !== streamKey ? pattern : undefined;
    const created = new Destination(this.#operation, source, streamKey, template, reader);
    put(streams, streamKey ?? '', created);
    return created;
  }
}

function put<K, V>(map: Map<K, V>, key: K, value: V): void {
  if (map.size >= MAX_KEPT) map.clear();
  map.set(key, value);
}

function defined(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}

/** By name: the SDK sorts the names of each measurement. */
function sorted(attributes: Attributes): Attributes {
  return Object.fromEntries(Object.entries(attributes).sort(([a], [b]) => (a < b ? -1 : 1)));
}
