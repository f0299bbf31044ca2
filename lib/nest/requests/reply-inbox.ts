import { AsyncResource } from 'node:async_hooks';
import { randomBytes, randomUUID } from 'node:crypto';

import type { WritePacket } from '@nestjs/microservices';

import { outsideContext } from '../../shared/async-context.js';
import { monotonicNow } from '../../shared/clock.js';
import type { StreamConsumer } from '../../engine/consuming/stream-consumer.js';
import { StreamMessage } from '../../engine/messages/stream-message.js';
import type { RedisStreamer } from '../../engine/streamer.js';
import { callSafely } from '../../shared/callbacks.js';
import { errorText } from '../../shared/error-text.js';
import { ClosedError, ConsumerEndedError, RequestTimeoutError } from '../../errors.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { within } from '../../shared/backoff.js';
import type { PacketCodec } from '../packet-codec.js';
import { REPLY_STREAM_TTL, REQUEST_HEADERS, TTL_RENEWAL, partOf } from './request-headers.js';
import type { AnswerPart } from './request-headers.js';

export interface ReplyInboxOptions {
  readonly streamer: RedisStreamer;
  readonly codec: PacketCodec;
  readonly replyPrefix: string;
  /** Milliseconds without any reply after which a request fails. */
  readonly requestTimeout: number;
  readonly logger: Required<RedisStreamsLogger>;
}

/** A request that waits for its last reply. */
export interface OpenRequest {
  /** The correlation id. */
  readonly id: string;
  readonly pattern: string;
  readonly callback: (packet: WritePacket) => void;
  /** The async context of the caller, in which its replies are decoded and given to it. */
  readonly context: AsyncResource;
  /** Longest time without a reply, in milliseconds. */
  readonly timeout: number;
  /** On the monotonic clock; every reply puts it off. */
  deadline: number;
  /** Of a request with a time-out of its own. */
  timer: NodeJS.Timeout | undefined;
  /** A server may have read it. */
  isSent: boolean;
  /** It was answered, given up, or has failed. */
  isOver: boolean;
  /** The last of several replies that was received. */
  part: AnswerPart | undefined;
}

/** Longest wait for the last trim while closing, in milliseconds: Redis may be gone. */
const TRIM_LIMIT = 1_000;
/** Number of replies after which those already read are trimmed from the reply stream. */
const TRIM_AFTER = 1_000;
const BATCH_SIZE = 1_000;

/**
 * Owns the reply stream of one client, read from its beginning, and the open requests by correlation id. A request leaves
 * with its last reply, its time-out, its failure or its unsubscription, whichever is first. The stream is read from the
 * first request on; a failed read ends the reading, and the next request starts it again.
 */
export class ReplyInbox {
  readonly streamKey: string;
  readonly #options: ReplyInboxOptions;
  readonly #open = new Map<string, OpenRequest>();
  /** Begins the correlation ids. */
  readonly #name = randomBytes(6).toString('hex');
  /** Requests so far. */
  #registered = 0;
  /** Those with the time-out of the client, in the order of their deadlines: every reply moves its request to the end. */
  readonly #expiring = new Set<OpenRequest>();
  #opening: Promise<void> | undefined;
  #isOpen = false;
  #consumer: StreamConsumer | undefined;
  #timer: NodeJS.Timeout | undefined;
  #sinceTrim = 0;
  #renewedAt = monotonicNow();
  #isClosed = false;

  constructor(options: ReplyInboxOptions) {
    this.#options = options;
    this.streamKey = `${options.replyPrefix}${randomUUID()}`;
  }

  /** Open requests. */
  get size(): number {
    return this.#open.size;
  }

  /** Whether replies can be read. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Resolves when replies can be read. After a failure the next call tries again. @throws ClosedError */
  async open(): Promise<void> {
    if (this.#isClosed) throw new ClosedError('The client');
    this.#opening ??= outsideContext(() => this.#start()).catch((error: unknown) => {
      this.#opening = undefined;
      throw error;
    });
    await this.#opening;
  }

  /** @param timeout of this request, in place of that of the client */
  register(pattern: string, callback: (packet: WritePacket) => void, timeout?: number): OpenRequest {
    const { requestTimeout } = this.#options;
    this.#registered += 1;
    const request: OpenRequest = {
      id: `${this.#name}-${this.#registered.toString(36)}`,
      pattern,
      callback,
      context: new AsyncResource('RedisStreamsRequest'),
      timeout: timeout ?? requestTimeout,
      deadline: 0,
      timer: undefined,
      isSent: false,
      isOver: false,
      part: undefined,
    };
    this.#open.set(request.id, request);
    if (timeout !== undefined) request.timer = setTimeout(() => this.#timeOut(request), timeout);
    this.#putOff(request);
    this.#watch();
    this.#consumer?.lookSoon();
    return request;
  }

  /** The client no longer waits: later replies are dropped, and a server that streams them ends its answer soon. */
  giveUp(request: OpenRequest): void {
    if (request.isOver) return;
    this.remove(request);
    this.#cancelSent(request);
  }

  /** The request is over; later replies to it are dropped. */
  remove(request: OpenRequest): void {
    request.isOver = true;
    this.#open.delete(request.id);
    this.#expiring.delete(request);
    clearTimeout(request.timer);
    if (this.#open.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Ends the request with an error, unless it is over. */
  fail(request: OpenRequest, error: unknown): void {
    if (request.isOver) return;
    this.remove(request);
    request.context.runInAsyncScope(this.#give, this, request, { err: error });
  }

  /** Fails every open request, then ends the reading and empties the stream. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#isOpen = false;
    // A copy: a callback may send again at once.
    const waiting = Array.from(this.#open.values());
    for (const request of waiting) this.fail(request, new ClosedError('The client'));
    const hasSent = waiting.some(({ isSent }) => isSent);
    // A consumer that is still being opened is ended by the streamer; awaiting it would wait for a server that may be gone.
    if (!this.#consumer) return;
    await this.#consumer.end();
    // A stream that cannot be emptied expires by itself.
    const cancelling = hasSent ? this.#tell('Cancelling requests', this.#cancel(undefined)) : undefined;
    await within(TRIM_LIMIT, Promise.all([this.#empty(), cancelling]));
  }

  async #start(): Promise<void> {
    this.#consumer = await this.#options.streamer.createReplyConsumer(this.streamKey, {
      mode: 'real-time',
      autoStreamReset: 'earliest',
      batchSize: BATCH_SIZE,
      shardDiscoveryInterval: false,
    });
    this.#isOpen = true;
    void this.#read(this.#consumer);
  }

  async #read(consumer: StreamConsumer): Promise<void> {
    try {
      for (;;) {
        const message = await consumer.next();
        const request = this.#open.get(StreamMessage.headerOf(message, REQUEST_HEADERS.correlationId) ?? '');
        const decoding = request?.context.runInAsyncScope(this.#receive, this, request, message);
        if (decoding) await decoding;
        this.#sinceTrim += 1;
        if (this.#sinceTrim >= TRIM_AFTER) void this.#trimBefore(message);
      }
    } catch (error) {
      if (error instanceof ConsumerEndedError) return;
      this.#options.logger.error(`Replies can no longer be read: ${errorText(error)}`);
      this.#opening = undefined;
      this.#isOpen = false;
      this.#consumer = undefined;
      // Its connection would stay open, beside that of the next one.
      await consumer.end();
    }
  }

  /** A promise only where a deserializer has to be awaited. Never fails. */
  #receive(request: OpenRequest, message: StreamMessage): Promise<void> | undefined {
    if (isRepeated(request, message)) return undefined;
    const isError = StreamMessage.headerOf(message, REQUEST_HEADERS.error) !== undefined;
    const isLast = isError || StreamMessage.headerOf(message, REQUEST_HEADERS.final) !== undefined;
    try {
      if (isError) {
        this.#answer(request, { err: message.json(), isDisposed: true });
      } else if (message.payload.length === 0 && (isLast || this.#options.codec.isJson)) {
        this.#answer(request, { isDisposed: isLast });
      } else {
        const response = this.#options.codec.decode(message, request.pattern);
        if (response instanceof Promise) return this.#answerWhenDecoded(request, response, isLast);
        this.#answer(request, { response, isDisposed: isLast });
      }
    } catch (error) {
      this.#answer(request, { err: error, isDisposed: true });
    }
    return undefined;
  }

  async #answerWhenDecoded(request: OpenRequest, decoding: Promise<unknown>, isLast: boolean): Promise<void> {
    try {
      this.#answer(request, { response: await decoding, isDisposed: isLast });
    } catch (error) {
      this.#answer(request, { err: error, isDisposed: true });
    }
  }

  #answer(request: OpenRequest, packet: WritePacket): void {
    // It may be over by now: decoding can take time.
    if (request.isOver) return;
    if (packet.isDisposed) this.remove(request);
    else this.#putOff(request);
    this.#give(request, packet);
  }

  /** The callback may be that of an override of the client; the replies to other requests do not depend on it. */
  #give(request: OpenRequest, packet: WritePacket): void {
    callSafely(
      () => request.callback(packet),
      (error) => this.#options.logger.error(`The callback of request '${request.pattern}' failed: ${errorText(error)}`),
    );
  }

  #putOff(request: OpenRequest): void {
    request.deadline = monotonicNow() + request.timeout;
    if (request.timer) {
      request.timer.refresh();
    } else {
      this.#expiring.delete(request);
      this.#expiring.add(request);
    }
  }

  /** One timer for all that have the time-out of the client: the first of them is the first to time out. */
  #watch(): void {
    if (this.#open.size === 0 || this.#timer) return;
    const [first] = this.#expiring;
    this.#timer = setTimeout(
      () => {
        this.#timer = undefined;
        this.#expire();
        this.#renew();
        this.#watch();
      },
      Math.min(TTL_RENEWAL, Math.max(1, (first?.deadline ?? Infinity) - monotonicNow())),
    );
  }

  #expire(): void {
    const now = monotonicNow();
    for (const request of this.#expiring) {
      if (request.deadline > now) return;
      this.#timeOut(request);
    }
  }

  #timeOut(request: OpenRequest): void {
    this.fail(request, new RequestTimeoutError(request.pattern, request.timeout));
    this.#cancelSent(request);
  }

  /** A stream that expires while a server writes to it counts as one whose client is gone. */
  #renew(): void {
    const now = monotonicNow();
    if (this.#open.size === 0 || !this.#isOpen || now - this.#renewedAt < TTL_RENEWAL) return;
    this.#renewedAt = now;
    const { appending } = this.#options.streamer;
    void this.#tell('Renewing the reply stream', appending.expire(this.streamKey, REPLY_STREAM_TTL));
  }

  #cancelSent({ isSent, pattern, id }: OpenRequest): void {
    if (isSent) void this.#tell(`Cancelling request '${pattern}'`, this.#cancel(id));
  }

  /** @param id undefined: all requests of this client */
  #cancel(id: string | undefined): Promise<void> {
    return this.#options.streamer.answers.cancel(this.streamKey, id, REPLY_STREAM_TTL);
  }

  /** Lets servers end early; a server that misses it streams unread replies until its handler ends. */
  async #tell(action: string, telling: Promise<void>): Promise<void> {
    try {
      await telling;
    } catch (error) {
      this.#options.logger.debug(`${action} failed: ${errorText(error)}`);
    }
  }

  /** By time alone, because servers without MINID know no other way to trim from the front. */
  async #trimBefore({ id }: StreamMessage): Promise<void> {
    this.#sinceTrim = 0;
    const [time] = id.split('-') as [string];
    try {
      await this.#options.streamer.appending.trimMinId(this.streamKey, time);
    } catch (error) {
      this.#trimFailed(error);
    }
  }

  async #empty(): Promise<void> {
    try {
      await this.#options.streamer.appending.trimMaxLen(this.streamKey, 0);
    } catch (error) {
      this.#trimFailed(error);
    }
  }

  /** Trimming keeps the stream small; an entry that is not trimmed goes when the stream expires. */
  #trimFailed(error: unknown): void {
    this.#options.logger.debug(`Trimming the reply stream failed: ${errorText(error)}`);
  }
}

/** The server writes a reply again when it does not know whether Redis has it. */
function isRepeated(request: OpenRequest, message: StreamMessage): boolean {
  const part = partOf(message);
  if (!part) return false;
  const last = request.part;
  if (last?.answer === part.answer && part.number <= last.number) return true;
  request.part = part;
  return false;
}
