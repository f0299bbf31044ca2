import type { ReadPacket } from '@nestjs/microservices';

import { DEFAULTS } from '../engine/options/options.js';
import { delayedId } from '../engine/messages/delayed-id.js';
import { checkSendOptions, headerFields } from '../engine/messages/outgoing-message.js';
import type { Payload, SendOptions } from '../engine/messages/outgoing-message.js';
import { Receipt } from '../engine/messages/receipt.js';
import type { EncodedPacket, PacketCodec } from '../nest/packet-codec.js';
import type { StreamNames } from '../nest/redis-streams.options.js';
import type { AppendCommands, AppendRequest, DelayedCommands } from '../redis/commands/stream-commands.js';
import type { VirtualClock } from './virtual-clock.js';

/** An entry of a stream. */
export interface TestEntry {
  readonly id: string;
  readonly fields: readonly Buffer[];
  /** Its place among the entries of all streams. */
  readonly order: number;
}

/** A message that waits until it is due. */
interface DelayedTestEntry {
  readonly streamKey: string;
  readonly token: string;
  readonly fields: readonly Buffer[];
  /** When it is due, of `VirtualClock.elapsed`. */
  readonly due: number;
  /** The same as a date, in milliseconds since the epoch. */
  readonly deliverAt: number;
  /** Of its deduplication id, if it has one. */
  readonly record: string | undefined;
}

/** The first message with a deduplication id. */
interface FirstSend {
  readonly receipt: Receipt;
  /** When the id may be used again, of `VirtualClock.elapsed`. */
  readonly until: number;
}

export interface TestStreamsOptions {
  readonly clock: VirtualClock;
  readonly codec: PacketCodec;
  readonly names: StreamNames;
}

/**
 * What Redis does for the test client and server, in memory: it keeps the entries of streams, the messages that wait for their
 * time, and the deduplication ids. It hands out nothing by itself.
 */
export class TestStreams implements Pick<AppendCommands, 'appendTrimmed'>, Pick<DelayedCommands, 'list' | 'cancel'> {
  readonly clock: VirtualClock;
  readonly #codec: PacketCodec;
  readonly #names: StreamNames;
  readonly #entries = new Map<string, TestEntry[]>();
  /** In the order of their times. */
  #delayed: DelayedTestEntry[] = [];
  readonly #firsts = new Map<string, FirstSend>();
  /** Sends whose serializer or schema has not ended. */
  readonly #encoding = new Set<Promise<Receipt>>();
  /** Of the last id of each stream. */
  readonly #lastTimes = new Map<string, number>();
  #count = 0;

  constructor({ clock, codec, names }: TestStreamsOptions) {
    this.clock = clock;
    this.#codec = codec;
    this.#names = names;
  }

  /** The stream of a pattern. */
  streamOf(route: string): string {
    return this.#names.get(route) ?? route;
  }

  get streamKeys(): readonly string[] {
    return [...this.#entries.keys()];
  }

  entriesOf(streamKey: string): readonly TestEntry[] {
    return this.#entries.get(streamKey) ?? [];
  }

  /**
   * Stores an event, at once or when it is due. A promise where the serializer or the schema of a catalog is asynchronous.
   * @throws InvalidOptionError, PayloadInvalidError
   */
  send(route: string, packet: ReadPacket): Receipt | Promise<Receipt> {
    const encoded = this.encode(packet);
    const streamKey = this.streamOf(route);
    if (!(encoded instanceof Promise)) return this.#store(streamKey, encoded);
    const storing = encoded.then((each) => this.#store(streamKey, each));
    this.#encoding.add(storing);
    void storing.catch(() => undefined).finally(() => this.#encoding.delete(storing));
    return storing;
  }

  /** @throws InvalidOptionError, PayloadInvalidError */
  encode(packet: ReadPacket): EncodedPacket | Promise<EncodedPacket> {
    return this.#codec.encode(packet);
  }

  /** Resolves when everything that was sent before is stored, or refused. */
  async stored(): Promise<void> {
    await Promise.allSettled(this.#encoding);
  }

  #store(streamKey: string, { payload, options }: EncodedPacket): Receipt {
    checkSendOptions(options);
    const { deduplication } = options;
    const record = deduplication && `${streamKey} ${deduplication.id}`;
    const first = record === undefined ? undefined : this.#firsts.get(record);
    if (first && this.clock.elapsed < first.until) return first.receipt;
    const receipt = this.#storeFirst(streamKey, payload, options, record);
    if (deduplication && record !== undefined) {
      this.#firsts.set(record, { receipt, until: this.clock.elapsed + deduplication.within });
    }
    return receipt;
  }

  #storeFirst(streamKey: string, payload: Payload, options: SendOptions, record: string | undefined): Receipt {
    const { headers = {}, timestamp, delay, deliverAt } = options;
    const fields = toFields([DEFAULTS.streamer.messageField, payload, ...headerFields(headers)]);
    const now = this.clock.now();
    const wait = delay ?? (deliverAt ? Math.max(0, deliverAt.getTime() - now) : undefined);
    if (wait === undefined) return new Receipt(streamKey, 0, this.append(streamKey, fields, timestamp?.getTime()));
    const token = `test-${this.#count++}`;
    const due = deliverAt?.getTime() ?? now + wait;
    this.#delayed.push({ streamKey, token, fields, due: this.clock.elapsed + wait, deliverAt: due, record });
    this.#delayed.sort((one, other) => one.due - other.due);
    return new Receipt(streamKey, 0, delayedId({ token, due, shardId: undefined }), new Date(due));
  }

  /** Returns the id of the entry. @param time of the id, in milliseconds since the epoch */
  append(streamKey: string, fields: readonly Buffer[], time = this.clock.now()): string {
    const id = this.nextId(streamKey, time);
    const entries = this.#entries.get(streamKey) ?? [];
    this.#entries.set(streamKey, entries);
    entries.push({ id, fields, order: this.#count++ });
    return id;
  }

  /** An id that is after every other of the stream. */
  nextId(streamKey: string, time = this.clock.now()): string {
    const last = Math.max(this.#lastTimes.get(streamKey) ?? 0, time);
    this.#lastTimes.set(streamKey, last);
    return `${last}-${this.#count++}`;
  }

  appendTrimmed(
    streamKey: string,
    { fields }: Pick<AppendRequest, 'fields'>,
  ): Promise<{ outcome: string; trimmed: 0 }> {
    return Promise.resolve({ outcome: this.append(streamKey, toFields(fields)), trimmed: 0 });
  }

  /** When the next message is due, of `VirtualClock.elapsed`; Infinity when none waits. */
  get nextDue(): number {
    return this.#delayed[0]?.due ?? Infinity;
  }

  /** Appends what is due. */
  moveDue(): void {
    const { elapsed } = this.clock;
    const due = this.#delayed.filter((message) => message.due <= elapsed);
    this.#delayed = this.#delayed.slice(due.length);
    for (const { streamKey, fields } of due) this.append(streamKey, fields);
  }

  list(
    streamKey: string,
    count: number,
    after?: { readonly token: string },
  ): Promise<Array<{ token: string; due: number; fields: Buffer[] }>> {
    const waiting = this.#delayed.filter((message) => message.streamKey === streamKey);
    const begin = after ? waiting.findIndex(({ token }) => token === after.token) + 1 : 0;
    const page = waiting.slice(begin, begin + count);
    return Promise.resolve(
      page.map(({ token, deliverAt, fields }) => ({ token, due: deliverAt, fields: [...fields] })),
    );
  }

  cancel(streamKey: string, token: string): Promise<boolean> {
    const message = this.#delayed.find((each) => each.streamKey === streamKey && each.token === token);
    if (!message) return Promise.resolve(false);
    this.#delayed = this.#delayed.filter((each) => each !== message);
    if (message.record !== undefined) this.#firsts.delete(message.record);
    return Promise.resolve(true);
  }
}

/** As they come from Redis. */
export function toFields(fields: ReadonlyArray<string | Uint8Array>): Buffer[] {
  return fields.map((field) => Buffer.from(field as string));
}
