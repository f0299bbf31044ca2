import type { ReadPacket, WritePacket } from '@nestjs/microservices';

import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import type { RedisStreamer } from '../../engine/streamer.js';
import { InvalidOptionError, NoHandlerError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { EncodedPacket, PacketCodec } from '../packet-codec.js';
import { RedisStreamsRecord } from '../redis-streams.record.js';
import type { RecordDelivery } from '../redis-streams.record.js';
import { ReplyInbox } from './reply-inbox.js';
import type { OpenRequest } from './reply-inbox.js';
import { REQUEST_HEADERS } from './request-headers.js';

export interface RequestSenderOptions {
  readonly streamer: RedisStreamer;
  readonly producer: StreamProducer;
  readonly codec: PacketCodec;
  readonly replyPrefix: string;
  /** Milliseconds without any reply after which a request fails. */
  readonly requestTimeout: number;
  readonly logger: Required<RedisStreamsLogger>;
}

const MAX_KNOWN_PATTERNS = 10_000;

/**
 * The client's end of requests: registers each in the {@link ReplyInbox}, then appends it to the stream of its pattern
 * with headers that say where to answer and until when, by the clock of Redis. It appends nothing before replies can be read
 * and a server is known to serve the pattern. It never throws: what fails goes to the callback of the request.
 */
export class RequestSender {
  readonly #options: RequestSenderOptions;
  readonly #inbox: ReplyInbox;
  /** Patterns whose stream is known to have a consumer group, with the keys of its shards; at most {@link MAX_KNOWN_PATTERNS}. */
  readonly #served = new Map<string, readonly string[]>();

  constructor(options: RequestSenderOptions) {
    this.#options = options;
    this.#inbox = new ReplyInbox(options);
  }

  /** Requests that wait for their last reply. */
  get size(): number {
    return this.#inbox.size;
  }

  send(pattern: string, packet: ReadPacket, callback: (packet: WritePacket) => void): OpenRequest {
    const record = packet.data instanceof RedisStreamsRecord ? packet.data : undefined;
    const request = this.#inbox.register(pattern, callback, record?.timeout);
    try {
      refuseForRequests(record);
      const encoded = this.#options.codec.encode(packet);
      if (this.#isPreparedFor(pattern) && !(encoded instanceof Promise)) this.#append(request, encoded);
      else void this.#prepareAndAppend(request, encoded);
    } catch (error) {
      this.#inbox.fail(request, error);
    }
    return request;
  }

  giveUp(request: OpenRequest): void {
    this.#inbox.giveUp(request);
  }

  /** Fails the requests that wait and stops reading replies. */
  close(): Promise<void> {
    return this.#inbox.close();
  }

  async #prepareAndAppend(request: OpenRequest, encoding: EncodedPacket | Promise<EncodedPacket>): Promise<void> {
    try {
      const [encoded] = await Promise.all([encoding, this.#prepareFor(request.pattern)]);
      this.#append(request, encoded);
    } catch (error) {
      this.#inbox.fail(request, error);
    }
  }

  /** @throws NoHandlerError when the stream of the pattern has no consumer group: the request could only time out */
  async #prepareFor(pattern: string): Promise<void> {
    const { streamer, producer } = this.#options;
    await streamer.reach();
    await this.#inbox.open();
    const keys = producer.keysOf(pattern);
    if (!this.#served.has(pattern)) {
      const manager = await streamer.createManager();
      const served = await Promise.all(keys.map((key) => manager.hasGroups(key)));
      if (!served.includes(true)) throw new NoHandlerError(pattern);
      // An application may make its patterns of the ids of tenants or orders.
      if (this.#served.size >= MAX_KNOWN_PATTERNS) this.#served.clear();
      this.#served.set(pattern, keys);
    }
    const { clock } = streamer;
    await Promise.all(keys.filter((key) => !clock.isCurrent(key)).map((key) => clock.ask(key)));
  }

  #isPreparedFor(pattern: string): boolean {
    const { clock } = this.#options.streamer;
    const keys = this.#served.get(pattern);
    return this.#inbox.isOpen && keys !== undefined && keys.every((key) => clock.isCurrent(key));
  }

  /**
   * When the request times out, by the clock of the server that gives it its id. Shards may be on several nodes: the latest of
   * their times refuses no request too early.
   */
  #deadlineOf({ pattern, deadline }: OpenRequest): number {
    const { clock } = this.#options.streamer;
    let offset = -Infinity;
    for (const key of this.#served.get(pattern) ?? [pattern]) offset = Math.max(offset, clock.offset(key));
    return deadline + offset;
  }

  #append(request: OpenRequest, { payload, options }: EncodedPacket): void {
    if (request.isOver) return;
    request.isSent = true;
    const headers = {
      ...options.headers,
      [REQUEST_HEADERS.correlationId]: request.id,
      [REQUEST_HEADERS.replyTo]: this.#inbox.streamKey,
      [REQUEST_HEADERS.deadline]: String(this.#deadlineOf(request)),
    };
    const onSettled = (failure: unknown): void => {
      if (failure) this.#inbox.fail(request, failure);
    };
    this.#options.producer.post(request.pattern, payload, { ...options, headers }, onSettled, 'request');
  }
}

/** @throws InvalidOptionError for what makes sense for events only */
export function refuseForRequests({ expiresAt, deduplication, delay, deliverAt }: RecordDelivery = {}): void {
  if (expiresAt) throw new InvalidOptionError('expiresAt', 'is for events only; a request has a timeout', expiresAt);
  const rule = 'is for events only: a request that is not stored gets no answer';
  if (deduplication) throw new InvalidOptionError('deduplication', rule, deduplication.id);
  if (delay === undefined && !deliverAt) return;
  const option = deliverAt ? 'deliverAt' : 'delay';
  throw new InvalidOptionError(option, 'is for events only: a request waits for its answer', deliverAt ?? delay);
}
