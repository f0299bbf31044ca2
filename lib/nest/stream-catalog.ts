import type { Observable } from 'rxjs';

import type { Receipt } from '../engine/messages/receipt.js';
import { InvalidOptionError } from '../errors.js';
import { check, optionNames } from '../shared/option-checks.js';
import type { ClientRedisStreams } from './client/redis-streams.client.js';
import type { RedisStreamsContext } from './redis-streams.context.js';
import { StreamEventPattern, decorateParameters } from './redis-streams.decorators.js';
import { SCHEMA } from './handler-extras.js';
import type { BatchOptions, HandlerExtras } from './handler-extras.js';
import { RedisStreamsRecord } from './redis-streams.record.js';
import type { StandardSchemaV1 } from './standard-schema.js';

/** For each event whose payload is checked, its schema. */
export type CatalogSchemas<Events extends object> = {
  readonly [K in keyof Events]?: StandardSchemaV1<unknown, Events[K]>;
};

/** Options of {@link streamCatalog}. */
export interface StreamCatalogOptions<Events extends object> {
  /**
   * Checked when an event is sent, and when it is received; a handler gets what its schema returns.
   * @defaultValue no checks beyond those of the compiler
   */
  schemas?: CatalogSchemas<Events>;
}

/** A decorator for methods that accept the parameters of `Handler`. */
export type HandlerDecorator<Handler> = <Method extends Handler>(
  target: object,
  name: string | symbol,
  descriptor: TypedPropertyDescriptor<Method>,
) => void;

/** Sends the events of a catalog. Both methods are those of the client, with the types of the catalog. */
export interface CatalogClient<Events extends object> {
  /** Errors with PayloadInvalidError, before any I/O, when the schema of the event refuses the data. */
  emit<K extends keyof Events & string>(event: K, data: Events[K] | RedisStreamsRecord<Events[K]>): Observable<Receipt>;
  /** Sends several messages together. Errors with PayloadInvalidError, before any I/O, when the schema refuses one of them. */
  emitBatch<K extends keyof Events & string>(
    event: K,
    messages: ReadonlyArray<Events[K] | RedisStreamsRecord<Events[K]>>,
  ): Observable<Receipt[]>;
}

const OPTIONS = optionNames<StreamCatalogOptions<object>>({ schemas: true });

/**
 * The events of an application by the names of their streams, each with the type of its payload. See {@link streamCatalog}.
 */
export class StreamCatalog<Events extends object, Context extends RedisStreamsContext = RedisStreamsContext> {
  readonly #schemas: Readonly<Record<string, StandardSchemaV1 | undefined>>;

  /** @throws InvalidOptionError */
  constructor(options: StreamCatalogOptions<Events> = {}) {
    check.options('streamCatalog()', options, OPTIONS);
    const schemas = (options.schemas ?? {}) as Record<string, StandardSchemaV1 | undefined>;
    for (const [event, schema] of Object.entries(schemas)) {
      if (schema === undefined || typeof schema['~standard']?.validate === 'function') continue;
      throw new InvalidOptionError(
        `schemas['${event}']`,
        'must follow Standard Schema (https://standardschema.dev)',
        schema,
      );
    }
    this.#schemas = schemas;
  }

  /**
   * Makes a method the handler of an event. Its first parameter must accept the payload, and its second one, if there
   * is one, is the context; with `batch` both are arrays.
   * @example
   * ```ts
   * @events.on('clicks', { batch: { size: 100 } })
   * handle(clicks: Click[], contexts: RedisStreamsContext[]) {}
   * ```
   */
  on<K extends keyof Events & string>(
    event: K,
    extras: HandlerExtras & { batch: BatchOptions },
  ): HandlerDecorator<(data: Array<Events[K]>, contexts: Context[]) => unknown>;
  on<K extends keyof Events & string>(
    event: K,
    extras?: HandlerExtras & { batch?: undefined },
  ): HandlerDecorator<(data: Events[K], context: Context) => unknown>;
  on(event: string, extras: HandlerExtras = {}): MethodDecorator {
    const schema = this.#schemaOf(event);
    const checked: HandlerExtras & { [SCHEMA]?: StandardSchemaV1 } = schema ? { ...extras, [SCHEMA]: schema } : extras;
    const bind = StreamEventPattern(event, checked);
    return (target, name, descriptor) => {
      decorateParameters(target, name);
      return bind(target, name, descriptor);
    };
  }

  /**
   * Sends the events of this catalog through a client, which the catalog never closes. A payload that its schema refuses is
   * not sent: the Observable errors with a PayloadInvalidError.
   */
  client(client: Pick<ClientRedisStreams, 'emit' | 'emitBatch'>): CatalogClient<Events> {
    const checked = (event: string, data: unknown): unknown => {
      const schema = this.#schemaOf(event);
      // The client refuses undefined and null.
      return schema && data !== undefined && data !== null ? RedisStreamsRecord.checkedBy(schema, data) : data;
    };
    return {
      emit: (event, data) => client.emit(event, checked(event, data)),
      emitBatch: (event, messages) =>
        client.emitBatch(
          event,
          // The client refuses everything but an array.
          Array.isArray(messages) ? messages.map((data) => checked(event, data)) : messages,
        ),
    };
  }

  #schemaOf(event: string): StandardSchemaV1 | undefined {
    return Object.hasOwn(this.#schemas, event) ? this.#schemas[event] : undefined;
  }
}

/**
 * Declares which events there are, so that a wrong payload or an unknown event is an error of the compiler, where it is sent
 * and where it is handled. With schemas the payloads are checked at run time as well: one that is invalid is not sent, and
 * one that was received becomes a dead letter at once.
 * @throws InvalidOptionError
 * @example
 * ```ts
 * export const events = streamCatalog<{ orders: Order; 'orders.paid': Paid }>();
 *
 * events.client(client).emit('orders', { item: 'tea' });
 *
 * @events.on('orders', { ordered: true })
 * handle(order: Order, context: RedisStreamsContext) {}
 * ```
 */
export function streamCatalog<Events extends object, Context extends RedisStreamsContext = RedisStreamsContext>(
  options?: StreamCatalogOptions<Events>,
): StreamCatalog<Events, Context> {
  return new StreamCatalog(options);
}
