import { types } from 'node:util';

import type { Deserializer, ReadPacket, Serializer } from '@nestjs/microservices';
import { isObservable } from 'rxjs';

import { KEY_HEADER } from '../constants.js';
import { REDRIVE_GROUP_HEADER } from '../engine/admin/redrive.js';
import type { Payload, SendOptions } from '../engine/messages/outgoing-message.js';
import type { StreamMessage } from '../engine/messages/stream-message.js';
import { CallbackError, InvalidOptionError, PayloadDecodeError, RedisStreamsError } from '../errors.js';
import { isPromise } from '../shared/callbacks.js';
import { EXPIRES_AT_HEADER } from './deadlines.js';
import { RedisStreamsRecord, RedisStreamsRecordBuilder } from './redis-streams.record.js';
import { validate } from './standard-schema.js';

/** The serializer of a client or server that is not given one. */
export const JSON_SERIALIZER: Serializer<unknown, string> = Object.freeze({ serialize: toJson });

/** The deserializer of a client or server that is not given one. */
export const JSON_DESERIALIZER: Deserializer<Buffer, unknown> = Object.freeze({
  deserialize: (payload: Buffer): unknown => JSON.parse(payload.toString()),
});

/** Bytes that the fields beside the payload may have before they count: headers of requests, tracing and dead letters. */
const FREE_HEADERS = 16 * 1024;

/** A packet as the producer sends it. */
export interface EncodedPacket {
  readonly payload: Payload;
  readonly options: SendOptions;
}

/**
 * Turns the data of a Nest packet into an entry's payload and headers, and back. The payload is the serialized data and
 * nothing else, so that any client in any language can read and write it.
 */
export class PacketCodec {
  readonly #serializer: () => Serializer;
  readonly #deserializer: () => Deserializer;
  readonly #maxPayload: number;

  /**
   * Serializer and deserializer are looked up for each packet: a subclass of the client or server may set its own after this
   * was constructed.
   * @param maxPayload an entry with more bytes is not decoded
   */
  constructor(serializer: () => Serializer, deserializer: () => Deserializer, maxPayload = Infinity) {
    this.#serializer = serializer;
    this.#deserializer = deserializer;
    this.#maxPayload = maxPayload;
  }

  /**
   * Synchronous when the serializer and the schema are.
   * @throws InvalidOptionError when the data cannot be serialized; CallbackError of a serializer of the options; PayloadInvalidError
   */
  encode(packet: ReadPacket): EncodedPacket | Promise<EncodedPacket> {
    const checking = checkPayload(packet);
    return checking ? checking.then(() => this.#serialize(packet)) : this.#serialize(packet);
  }

  #serialize(packet: ReadPacket): EncodedPacket | Promise<EncodedPacket> {
    const record = packet.data instanceof RedisStreamsRecord ? packet.data : undefined;
    const data: unknown = record ? record.data : packet.data;
    if (data instanceof RedisStreamsRecordBuilder) {
      throw InvalidOptionError.withoutValue('data', 'must be a record, not its builder: call build()');
    }
    const options = sendOptions(packet, record);
    const serializer = this.#serializer();
    if (serializer === JSON_SERIALIZER) return { payload: toJson(data), options };
    let serialized: unknown;
    try {
      serialized = serializer.serialize(data, { pattern: packet.pattern });
    } catch (error) {
      throw serializerFailure(error);
    }
    // Not `instanceof`: the promise may be of another library, or of another realm.
    if (!isPromise(serialized)) return { payload: toPayload(serialized), options };
    return Promise.resolve(serialized).then(
      (value: unknown) => ({ payload: toPayload(value), options }),
      (error: unknown) => {
        throw serializerFailure(error);
      },
    );
  }

  /** Whether the deserializer is the default one. */
  get isJson(): boolean {
    return this.#deserializer() === JSON_DESERIALIZER;
  }

  /** The data, or a promise of it unless the deserializer is the default one. @throws PayloadDecodeError */
  decode(message: StreamMessage, pattern: string): unknown {
    if (this.#maxPayload !== Infinity) requireSize(message, this.#maxPayload);
    if (!message.hasPayload) return fieldsOf(message);
    const deserializer = this.#deserializer();
    return deserializer === JSON_DESERIALIZER ? message.json() : deserialize(deserializer, message, pattern);
  }
}

/**
 * Checks a record of a catalog by its schema. The data is sent as it was given: the receiver has the schema change it, and
 * twice would be once too often.
 * @returns a promise where the schema is asynchronous
 * @throws PayloadInvalidError
 */
function checkPayload({ pattern, data }: ReadPacket): Promise<unknown> | undefined {
  const schema = data instanceof RedisStreamsRecord ? RedisStreamsRecord.schemaOf(data) : undefined;
  if (!schema) return undefined;
  const checking = validate(schema, String(pattern), (data as RedisStreamsRecord).data);
  return isPromise(checking) ? Promise.resolve(checking) : undefined;
}

/** The serializer of the options, else JSON. @throws InvalidOptionError */
export function resolveSerializer({ serializer }: { serializer?: Serializer | undefined }): Serializer {
  if (serializer !== undefined && typeof serializer?.serialize !== 'function') {
    throw new InvalidOptionError('serializer', 'must have a method serialize', serializer);
  }
  return serializer ?? JSON_SERIALIZER;
}

/** The deserializer of the options, else JSON. @throws InvalidOptionError */
export function resolveDeserializer({ deserializer }: { deserializer?: Deserializer | undefined }): Deserializer {
  if (deserializer !== undefined && typeof deserializer?.deserialize !== 'function') {
    throw new InvalidOptionError('deserializer', 'must have a method deserialize', deserializer);
  }
  return deserializer ?? JSON_DESERIALIZER;
}

/** @throws PayloadDecodeError */
function requireSize(message: StreamMessage, limit: number): void {
  const size = sizeOf(message);
  if (size <= limit) return;
  throw new PayloadDecodeError(
    `Entry ${message.id} of '${message.streamKey}' is not decoded: it has ${size} bytes, and maxPayload is ${limit}`,
  );
}

/** Bytes of what a handler is given: the payload, or without one all fields; headers as far as they are out of the ordinary. */
function sizeOf(message: StreamMessage): number {
  const stored = message.storedFields.reduce((sum, { length }) => sum + length, 0);
  if (!message.hasPayload) return stored;
  const { length } = message.payload;
  return length + Math.max(0, stored - length - FREE_HEADERS);
}

async function deserialize(deserializer: Deserializer, message: StreamMessage, pattern: string): Promise<unknown> {
  try {
    return await deserializer.deserialize(message.payload, { pattern, message });
  } catch (error) {
    throw new PayloadDecodeError(`Entry ${message.id} of '${message.streamKey}' cannot be deserialized`, error);
  }
}

function sendOptions({ metadata }: ReadPacket, record: RedisStreamsRecord | undefined): SendOptions {
  if (!metadata && !record) return {};
  const { headers, key, timestamp, expiresAt, deduplication, delay, deliverAt } = record ?? {};
  return {
    headers: {
      ...withoutRedrive(metadata),
      ...withoutRedrive(headers),
      ...(key === undefined ? {} : { [KEY_HEADER]: key }),
      ...(expiresAt ? { [EXPIRES_AT_HEADER]: String(expiresAt.getTime()) } : {}),
    },
    ...(key === undefined ? {} : { key }),
    ...(timestamp ? { timestamp } : {}),
    ...(deduplication ? { deduplication } : {}),
    ...(delay === undefined ? {} : { delay }),
    ...(deliverAt ? { deliverAt } : {}),
  };
}

/** What a handler sends with the headers of a redriven message is for all groups. */
function withoutRedrive(headers: Readonly<Record<string, string>> = {}): Readonly<Record<string, string>> {
  if (!Object.hasOwn(headers, REDRIVE_GROUP_HEADER)) return headers;
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name !== REDRIVE_GROUP_HEADER));
}

function serializerFailure(error: unknown): RedisStreamsError {
  return error instanceof RedisStreamsError ? error : new CallbackError('serializer', error);
}

function toPayload(value: unknown): Payload {
  return typeof value === 'string' || value instanceof Uint8Array ? value : toJson(value);
}

function toJson(data: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(data);
  } catch (error) {
    throw new InvalidOptionError('data', `must be serializable as JSON (${(error as Error).message})`, data);
  }
  if (json === undefined) throw new InvalidOptionError('data', 'must be serializable as JSON', data);
  if (typeof data === 'object' && data !== null) refuseEmptied(data, json);
  return json;
}

/** JSON makes `{}` of many values that have a content, and of a promise, which a forgotten `await` leaves. */
function refuseEmptied(data: object, json: string): void {
  const prototype: unknown = Object.getPrototypeOf(data);
  if (prototype === Object.prototype || prototype === Array.prototype) return;
  if (typeof (data as { toJSON?: unknown }).toJSON === 'function') return;
  const rule = 'must be serializable as JSON';
  if (isPromise(data)) throw InvalidOptionError.withoutValue('data', `${rule}; it is a promise: await it`);
  if (isObservable(data)) {
    throw InvalidOptionError.withoutValue('data', `${rule}; it is an Observable: send what it emits`);
  }
  const kind = Object.prototype.toString.call(data).slice('[object '.length, -1);
  // JSON stores the items of a typed array as properties, so `{}` is an empty one.
  const isKept = json !== '{}' || kind === 'Object' || types.isTypedArray(data);
  if (isKept && !types.isMap(data) && !types.isSet(data) && !hidesMessage(data)) return;
  throw InvalidOptionError.withoutValue('data', `${rule}, which leaves out the content of this ${kind}`);
}

/** Most errors, even with properties such as `code`: JSON has those only. Nest's exceptions make the message a property, too. */
function hidesMessage(data: object): boolean {
  return types.isNativeError(data) && !Object.prototype.propertyIsEnumerable.call(data, 'message');
}

/** An entry that another program wrote without the payload field. */
function fieldsOf(message: StreamMessage): Record<string, string> {
  return Object.fromEntries([...message.fields].map(([name, value]) => [name, value.toString()]));
}
