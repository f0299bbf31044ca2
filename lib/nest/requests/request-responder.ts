import type { MessageHandler } from '@nestjs/microservices';
import { isObservable } from 'rxjs';
import type { Observable } from 'rxjs';

import type { Delivery } from '../../engine/settling/settlement.js';
import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import type { Payload } from '../../engine/messages/outgoing-message.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { PacketCodec } from '../packet-codec.js';
import type { RedisStreamsContext } from '../redis-streams.context.js';
import { ReplyWriter } from './reply-writer.js';
import type { RequestInfo } from './request-headers.js';

/** As Nest's own transports say it. */
const NO_HANDLER = 'There is no matching message handler defined in the remote service.';

/** How long a reply stream outlives the last reply to it, and how often that is put off, in milliseconds. */
const REPLY_STREAM_TTL = 600_000;
const TTL_RENEWAL = 60_000;
const MAX_REMEMBERED_STREAMS = 10_000;
/** While so many replies are on their way to Redis, a handler's place is kept until its own is there. */
const MAX_REPLIES_UNDER_WAY = 1_000;

export interface RequestResponderOptions {
  readonly producer: StreamProducer;
  /** Makes a reply stream expire by itself. */
  readonly expire: (streamKey: string, ttl: number) => Promise<void>;
  readonly codec: PacketCodec;
  /** A request may name reply streams that begin so, and no other key. */
  readonly replyPrefix: string;
  readonly logger: Required<RedisStreamsLogger>;
  readonly withHooks: <T>(context: RedisStreamsContext, work: () => Promise<T>) => Promise<T>;
}

/**
 * Answers requests: every value that the handler's Observable emits is a reply, an error is one too. A request is
 * acknowledged once its replies are in Redis; retry and dead letters are for events.
 */
export class RequestResponder {
  readonly #options: RequestResponderOptions;
  readonly #renewedAt = new Map<string, number>();
  /** Of requests whose handlers have ended. */
  readonly #underWay = new Set<ReplyWriter>();
  /** Somebody waits for fewer replies under way. */
  #fewer: Deferred<void> | undefined;

  constructor(options: RequestResponderOptions) {
    this.#options = options;
  }

  /** Resolves when every request whose handler has ended is settled. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await this.#untilFewer();
  }

  /** Resolves when the handler has ended; its replies are written, and the request is acknowledged, after that. */
  respond(
    request: RequestInfo,
    delivery: Delivery,
    handler: MessageHandler | undefined,
    context: RedisStreamsContext,
  ): Promise<void> {
    const { replyPrefix, logger } = this.#options;
    const { id, streamKey } = delivery.message;
    if (!request.replyTo.startsWith(replyPrefix)) {
      logger.error(`Request ${id} of '${streamKey}' refused: its reply stream does not begin with '${replyPrefix}'`);
    } else if (Date.now() >= request.deadline) {
      logger.warn(`Request ${id} of '${streamKey}' came after its deadline and was not executed`);
    } else {
      return this.#answer(request, delivery, handler, context);
    }
    delivery.settle({ kind: 'ack' });
    return Promise.resolve();
  }

  async #answer(
    request: RequestInfo,
    delivery: Delivery,
    handler: MessageHandler | undefined,
    context: RedisStreamsContext,
  ): Promise<void> {
    const { producer, withHooks } = this.#options;
    const writer = new ReplyWriter({
      request,
      producer,
      encode: (value) => this.#encode(value, delivery.message.streamKey),
      onWritten: (failure) => this.#finish(request, delivery, writer, failure),
    });
    try {
      if (handler) await withHooks(context, () => this.#execute(handler, delivery, context, writer));
      else writer.fail({ status: 'error', message: NO_HANDLER });
    } catch (error) {
      writer.fail(error);
    }
    if (!writer.isWritten) this.#underWay.add(writer);
    while (this.#underWay.size > MAX_REPLIES_UNDER_WAY) await this.#untilFewer();
  }

  #finish({ replyTo }: RequestInfo, delivery: Delivery, writer: ReplyWriter, failure: unknown): void {
    const { id, streamKey } = delivery.message;
    if (failure === undefined) this.#renew(replyTo);
    else this.#options.logger.error(`The reply to request ${id} of '${streamKey}' was lost: ${errorText(failure)}`);
    delivery.settle({ kind: 'ack' });
    this.#underWay.delete(writer);
    this.#fewer?.resolve();
    this.#fewer = undefined;
  }

  async #untilFewer(): Promise<void> {
    this.#fewer ??= withResolvers<void>();
    await this.#fewer.promise;
  }

  async #execute(
    handler: MessageHandler,
    { message }: Delivery,
    context: RedisStreamsContext,
    writer: ReplyWriter,
  ): Promise<void> {
    const decoded = this.#options.codec.decode(message, message.streamKey);
    const result: unknown = await handler(decoded instanceof Promise ? await decoded : decoded, context);
    if (isObservable(result)) {
      await forward(result, writer);
    } else {
      if (result !== undefined) writer.next(result);
      writer.complete();
    }
  }

  #encode(data: unknown, pattern: string): Payload | Promise<Payload> {
    const encoded = this.#options.codec.encode({ pattern, data });
    return encoded instanceof Promise ? encoded.then(({ payload }) => payload) : encoded.payload;
  }

  /** Once in a while is enough; without the permission streams of clients that are gone stay behind. */
  #renew(streamKey: string): void {
    const now = Date.now();
    if (now - (this.#renewedAt.get(streamKey) ?? 0) < TTL_RENEWAL) return;
    if (this.#renewedAt.size >= MAX_REMEMBERED_STREAMS) this.#renewedAt.clear();
    this.#renewedAt.set(streamKey, now);
    this.#options.expire(streamKey, REPLY_STREAM_TTL).catch((error: unknown) => {
      this.#options.logger.debug(`The reply stream '${streamKey}' will not expire: ${errorText(error)}`);
    });
  }
}

async function forward(values: Observable<unknown>, writer: ReplyWriter): Promise<void> {
  const end = withResolvers<void>();
  writer.together(() => {
    values.subscribe({
      next: (value) => {
        if (value !== undefined) writer.next(value);
      },
      error: (error: unknown) => end.reject(error),
      complete: () => {
        writer.complete();
        end.resolve();
      },
    });
  });
  await end.promise;
}
