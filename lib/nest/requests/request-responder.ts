import type { MessageHandler } from '@nestjs/microservices';
import { isObservable } from 'rxjs';

import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { PacketCodec } from '../packet-codec.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import { ACKNOWLEDGED } from '../server/failure-policy.js';
import type { ProcessingHooks } from '../server/processing-hooks.js';
import { ReplyWriter } from './reply-writer.js';
import type { ReplyOutlet } from './reply-writer.js';
import type { RequestInfo } from './request-headers.js';

/** The text of Nest's own transports. */
const NO_HANDLER = 'There is no matching message handler defined in the remote service.';

/** Lifetime of a reply stream after the last reply to it, and how often it is renewed, in milliseconds. */
const REPLY_STREAM_TTL = 600_000;
const TTL_RENEWAL = 60_000;
const MAX_REMEMBERED_STREAMS = 10_000;
/**
 * Limit of requests whose replies are on their way to Redis: over it, a handler keeps its place until its own are stored.
 */
const MAX_REPLIES_UNDER_WAY = 1_000;

export interface RequestResponderOptions {
  readonly producer: StreamProducer;
  /** Makes a reply stream expire by itself. */
  readonly expire: (streamKey: string, ttl: number) => Promise<void>;
  readonly codec: PacketCodec;
  /** A request may name reply streams that begin so, and no other key. */
  readonly replyPrefix: string;
  readonly logger: Required<RedisStreamsLogger>;
  readonly hooks: ProcessingHooks;
}

/**
 * The server's end of requests: runs the handler, writes each value of its Observable as a reply and an error as the last
 * one. A request is acknowledged once its replies are in Redis; retries and dead letters are for events.
 */
export class RequestResponder implements ReplyOutlet {
  readonly producer: StreamProducer;
  readonly codec: PacketCodec;
  readonly #options: RequestResponderOptions;
  readonly #renewedAt = new Map<string, number>();
  /** Writers whose handlers have ended and whose replies are not all stored. */
  readonly #underWay = new Set<ReplyWriter>();
  /** Resolves when one of these is done. */
  #fewer: Deferred<void> | undefined;

  constructor(options: RequestResponderOptions) {
    this.producer = options.producer;
    this.codec = options.codec;
    this.#options = options;
  }

  /** Resolves when every request whose handler has ended is settled. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await this.#untilFewer();
  }

  /** Resolves when the handler has ended. Its replies are stored, and the request is acknowledged, after that. */
  respond(request: RequestInfo, context: RedisStreamsContext): Promise<void> {
    const { replyPrefix, logger } = this.#options;
    const { id, streamKey } = context.getMessage();
    if (!request.replyTo.startsWith(replyPrefix)) {
      logger.error(`Request ${id} of '${streamKey}' refused: its reply stream does not begin with '${replyPrefix}'`);
    } else if (Date.now() >= request.deadline) {
      logger.warn(`Request ${id} of '${streamKey}' was read after its deadline and was not executed`);
    } else {
      return this.#answer(request, context);
    }
    RedisStreamsContext.deliveryOf(context).settle(ACKNOWLEDGED);
    return Promise.resolve();
  }

  async #answer(request: RequestInfo, context: RedisStreamsContext): Promise<void> {
    const writer = new ReplyWriter(request, context, this);
    const { requestHandler } = RedisStreamsContext.scopeOf(context).binding;
    try {
      if (requestHandler) await this.#options.hooks.around(context, () => this.#run(requestHandler, writer));
      else writer.fail({ status: 'error', message: NO_HANDLER });
    } catch (error) {
      writer.fail(error);
    }
    if (!writer.isWritten) this.#underWay.add(writer);
    while (this.#underWay.size > MAX_REPLIES_UNDER_WAY) await this.#untilFewer();
  }

  async #run(handler: MessageHandler, writer: ReplyWriter): Promise<void> {
    const { context } = writer;
    const decoded = this.codec.decode(context.getMessage(), context.getPattern());
    const result: unknown = await handler(decoded instanceof Promise ? await decoded : decoded, context);
    if (isObservable(result)) {
      await writer.follow(result);
    } else {
      writer.next(result);
      writer.complete();
    }
  }

  onWritten(writer: ReplyWriter): void {
    const { context, failure } = writer;
    const { id, streamKey } = context.getMessage();
    if (failure === undefined) this.#renew(writer.request.replyTo);
    else this.#options.logger.error(`The reply to request ${id} of '${streamKey}' was lost: ${errorText(failure)}`);
    RedisStreamsContext.deliveryOf(context).settle(ACKNOWLEDGED);
    this.#underWay.delete(writer);
    this.#fewer?.resolve();
    this.#fewer = undefined;
  }

  async #untilFewer(): Promise<void> {
    this.#fewer ??= withResolvers<void>();
    await this.#fewer.promise;
  }

  /** Once per interval is enough. Without the permission to, reply streams of clients that are gone remain. */
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
