import { randomUUID } from 'node:crypto';

import type { WritePacket } from '@nestjs/microservices';

import { monotonicNow } from '../../shared/clock.js';
import type { BasicConsumer } from '../../engine/consuming/consumer-types.js';
import type { StreamMessage } from '../../engine/messages/stream-message.js';
import type { RedisStreamer } from '../../engine/streamer.js';
import { errorText } from '../../shared/error-text.js';
import { ClosedError, ConsumerEndedError, RequestTimeoutError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { within } from '../../shared/backoff.js';
import type { PacketCodec } from '../packet-codec.js';
import { REQUEST_HEADERS } from './request-headers.js';

export interface ReplyInboxOptions {
  readonly streamer: RedisStreamer;
  readonly codec: PacketCodec;
  readonly replyPrefix: string;
  /** Milliseconds without any reply after which a request has failed. */
  readonly requestTimeout: number;
  readonly logger: Required<RedisStreamsLogger>;
}

/** How long a server that is gone may hold up the end. */
const TRIM_LIMIT = 1_000;

interface OpenRequest {
  readonly pattern: string;
  readonly callback: (packet: WritePacket) => void;
  deadline: number;
}

/** After so many replies those that have been read are trimmed from the reply stream. */
const TRIM_AFTER = 1_000;
const BATCH_SIZE = 1_000;

/**
 * Where the replies to this client's requests arrive: one stream, read from its beginning, and the requests that wait, by
 * correlation id. A request leaves when its last reply, its time-out or its unsubscription comes, whichever is first.
 */
export class ReplyInbox {
  readonly streamKey: string;
  readonly #options: ReplyInboxOptions;
  /** In the order of their deadlines: every reply moves its request to the end. */
  readonly #open = new Map<string, OpenRequest>();
  #opening: Promise<void> | undefined;
  #isOpen = false;
  #consumer: BasicConsumer | undefined;
  #timer: NodeJS.Timeout | undefined;
  #sinceTrim = 0;
  #isClosed = false;

  constructor(options: ReplyInboxOptions) {
    this.#options = options;
    this.streamKey = `${options.replyPrefix}${randomUUID()}`;
  }

  /** Requests that wait. */
  get size(): number {
    return this.#open.size;
  }

  /** False once the request was answered, given up or timed out. */
  has(id: string): boolean {
    return this.#open.has(id);
  }

  /** Whether replies can be read. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Resolves when replies can be read. A failure is not remembered: the next request tries again. */
  async open(): Promise<void> {
    this.#opening ??= this.#start().catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    await this.#opening;
  }

  /** Returns the correlation id. */
  register(pattern: string, callback: (packet: WritePacket) => void): string {
    const id = randomUUID();
    this.#open.set(id, { pattern, callback, deadline: monotonicNow() + this.#options.requestTimeout });
    this.#watch();
    return id;
  }

  /** The request was given up, or could not be sent. */
  remove(id: string): void {
    this.#open.delete(id);
    if (this.#open.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** A request that still waits has failed. */
  fail(id: string, error: unknown): void {
    const request = this.#open.get(id);
    if (!request) return;
    this.remove(id);
    request.callback({ err: error });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    this.#isOpen = false;
    clearTimeout(this.#timer);
    for (const [id, { callback }] of this.#open) {
      this.#open.delete(id);
      callback({ err: new ClosedError('The client') });
    }
    // One that is still being opened is ended by the streamer; waiting for it would wait for a server that may be gone.
    if (!this.#consumer) return;
    await this.#consumer.end();
    // Otherwise the stream expires by itself.
    await within(
      TRIM_LIMIT,
      this.#trim(() => this.#options.streamer.appending.trimMaxLen(this.streamKey, 0)),
    );
  }

  async #start(): Promise<void> {
    if (this.#isClosed) throw new ClosedError('The client');
    this.#consumer = await this.#options.streamer.createConsumer(this.streamKey, {
      mode: 'real-time',
      autoStreamReset: 'earliest',
      batchSize: BATCH_SIZE,
      shardDiscoveryInterval: false,
    });
    this.#isOpen = true;
    void this.#read(this.#consumer);
  }

  async #read(consumer: BasicConsumer): Promise<void> {
    try {
      for (;;) {
        const message = await consumer.next();
        const decoding = this.#receive(message);
        if (decoding) await decoding;
        this.#sinceTrim += 1;
        if (this.#sinceTrim >= TRIM_AFTER) this.#trimBefore(message);
      }
    } catch (error) {
      if (error instanceof ConsumerEndedError) return;
      this.#options.logger.error(`Replies can no longer be read: ${errorText(error)}`);
      this.#opening = undefined;
      this.#isOpen = false;
    }
  }

  /** A promise only where a deserializer has to be waited for. Never fails. */
  #receive(message: StreamMessage): Promise<void> | undefined {
    const { headers } = message;
    const id = headers[REQUEST_HEADERS.correlationId] ?? '';
    const request = this.#open.get(id);
    if (!request) return;
    const isError = headers[REQUEST_HEADERS.error] !== undefined;
    const isDisposed = isError || headers[REQUEST_HEADERS.final] !== undefined;
    const answer = (packet: WritePacket): void => this.#answer(id, request, packet);
    const failed = (error: unknown): void => answer({ err: error, isDisposed: true });
    try {
      if (!isError && message.payload.length > 0) {
        const data = this.#options.codec.decode(message, request.pattern);
        if (data instanceof Promise) {
          return data.then((response: unknown) => answer({ response, isDisposed }), failed);
        }
        answer({ response: data, isDisposed });
      } else {
        answer(isError ? { err: message.json(), isDisposed } : { isDisposed });
      }
    } catch (error) {
      failed(error);
    }
    return undefined;
  }

  /** @param request as it was found; the id may have gone since */
  #answer(id: string, request: OpenRequest, packet: WritePacket): void {
    if (!this.#open.delete(id)) return;
    if (packet.isDisposed) this.remove(id);
    else this.#open.set(id, { ...request, deadline: monotonicNow() + this.#options.requestTimeout });
    request.callback(packet);
  }

  /** By time alone, because servers without MINID know no other way to trim from the front. */
  #trimBefore({ id }: StreamMessage): void {
    this.#sinceTrim = 0;
    const [time] = id.split('-') as [string];
    void this.#trim(() => this.#options.streamer.appending.trimMinId(this.streamKey, time));
  }

  /** One timer for all: the first in the map is the first to time out. */
  #watch(): void {
    const [first] = this.#open.values();
    if (!first || this.#timer) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#expire();
        this.#watch();
      },
      Math.max(1, first.deadline - monotonicNow()),
    );
  }

  #expire(): void {
    const now = monotonicNow();
    for (const [id, request] of this.#open) {
      if (request.deadline > now) return;
      this.#open.delete(id);
      request.callback({ err: new RequestTimeoutError(request.pattern, this.#options.requestTimeout) });
    }
  }

  /** Trimming keeps the stream small; what is not trimmed goes when the stream expires. */
  async #trim(trim: () => Promise<unknown>): Promise<void> {
    try {
      await trim();
    } catch (error) {
      this.#options.logger.debug(`Trimming the reply stream failed: ${errorText(error)}`);
    }
  }
}
