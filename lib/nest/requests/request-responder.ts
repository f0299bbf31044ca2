import type { MessageHandler } from '@nestjs/microservices';
import { isObservable } from 'rxjs';
import type { Observable } from 'rxjs';

import { StreamMessage } from '../../engine/messages/stream-message.js';
import type { StreamProducer } from '../../engine/producing/stream-producer.js';
import type { AnswerCommands, ClockCommands } from '../../redis/commands/stream-commands.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { hasPassed } from '../deadlines.js';
import type { PacketCodec } from '../packet-codec.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import { ACKNOWLEDGED } from '../server/failure-policy.js';
import type { ProcessingHooks } from '../server/processing-hooks.js';
import type { ServerReporter } from '../server/server-reporter.js';
import { AnswerWatch } from './answer-watch.js';
import { INTERNAL_ERROR, ReplyWriter } from './reply-writer.js';
import type { ReplyOutlet } from './reply-writer.js';
import { ReplyStreams } from './reply-streams.js';
import type { ReplyStreamsOptions } from './reply-streams.js';
import { MAX_HEADER_LENGTH } from './request-headers.js';
import type { RequestInfo } from './request-headers.js';

/** The text of Nest's own transports. */
export const NO_HANDLER = 'There is no matching message handler defined in the remote service.';

/**
 * Limit of requests whose replies are on their way to Redis: over it, a handler keeps its place until its own are stored.
 */
const MAX_REPLIES_UNDER_WAY = 1_000;

export interface RequestResponderOptions {
  readonly producer: StreamProducer;
  readonly appending: ReplyStreamsOptions['appending'];
  readonly answers: Pick<AnswerCommands, 'look'>;
  readonly clock: ClockCommands;
  readonly codec: PacketCodec;
  /** A request may name reply streams that begin so, and no other key. */
  readonly replyPrefix: string;
  readonly logger: Required<RedisStreamsLogger>;
  readonly hooks: ProcessingHooks;
  readonly reporter: Pick<ServerReporter, 'handlingFailed'>;
}

/**
 * The server's end of requests: runs the handler, writes each value of its Observable as a reply and an error as the last
 * one. A request is acknowledged once its replies are in Redis; retries and dead letters are for events.
 */
export class RequestResponder implements ReplyOutlet {
  readonly producer: StreamProducer;
  readonly codec: PacketCodec;
  readonly #options: RequestResponderOptions;
  readonly #streams: ReplyStreams;
  readonly #watch: AnswerWatch;
  /** Writers whose handlers have ended and whose replies are not all stored. */
  readonly #underWay = new Set<ReplyWriter>();
  /** Resolves when one of these is done. */
  #fewer: Deferred<void> | undefined;

  constructor(options: RequestResponderOptions) {
    this.producer = options.producer;
    this.codec = options.codec;
    this.#options = options;
    this.#streams = new ReplyStreams(options);
    this.#watch = new AnswerWatch({
      answers: options.answers,
      logger: options.logger,
      isExpiring: (replyStream) => this.#streams.isExpiring(replyStream),
      onUnread: (writer, isStreamGone) => this.#abandon(writer, isStreamGone),
    });
  }

  /** Watches no answers any more; those under way are written until their handlers end. */
  close(): void {
    this.#watch.close();
  }

  /** Resolves when every request whose handler has ended is settled. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await this.#untilFewer();
  }

  /** Resolves when the handler has ended. Its replies are stored, and the request is acknowledged, after that. */
  respond(request: RequestInfo, context: RedisStreamsContext): Promise<void> {
    if (!this.#mayAnswer(request, context)) return Promise.resolve();
    const isOver = hasPassed(request.deadline, context.getMessage(), this.#options.clock);
    return isOver ? this.#answerUnless(isOver, request, context) : this.#answer(request, context);
  }

  /** Answers a request whose handler cannot be run with an error, which tells the client no details. */
  refuse(request: RequestInfo, context: RedisStreamsContext): void {
    if (!this.#mayAnswer(request, context)) return;
    RedisStreamsContext.beginAnswer(context);
    const writer = new ReplyWriter(request, context, this);
    writer.fail({ status: 'error', message: INTERNAL_ERROR });
    if (!writer.isWritten) this.#underWay.add(writer);
  }

  /** Acknowledges a request that must not be answered. */
  #mayAnswer(request: RequestInfo, context: RedisStreamsContext): boolean {
    const { replyPrefix, logger } = this.#options;
    const { id, streamKey } = context.getMessage();
    if (!request.replyTo.startsWith(replyPrefix)) {
      logger.error(`Request ${id} of '${streamKey}' refused: its reply stream does not begin with '${replyPrefix}'`);
    } else if (isTooLong(request.correlationId) || isTooLong(request.replyTo.slice(replyPrefix.length))) {
      logger.error(
        `Request ${id} of '${streamKey}' refused: its correlation id, or the name of its reply stream after the prefix, ` +
          `has more than ${MAX_HEADER_LENGTH} characters`,
      );
    } else {
      return true;
    }
    RedisStreamsContext.deliveryOf(context).settle(ACKNOWLEDGED);
    return false;
  }

  async #answerUnless(isOver: Promise<boolean>, request: RequestInfo, context: RedisStreamsContext): Promise<void> {
    if (!(await isOver)) return this.#answer(request, context);
    const { id, streamKey } = context.getMessage();
    this.#options.logger.warn(`Request ${id} of '${streamKey}' was read after its deadline and was not executed`);
    RedisStreamsContext.deliveryOf(context).settle(ACKNOWLEDGED);
  }

  async #answer(request: RequestInfo, context: RedisStreamsContext): Promise<void> {
    const { deadline } = request;
    if (deadline !== Infinity) {
      const { key } = StreamMessage.shardOf(context.getMessage());
      RedisStreamsContext.deliveryOf(context).deadline = deadline - this.#options.clock.offset(key);
    }
    const writer = new ReplyWriter(request, context, this);
    const { requestHandler } = RedisStreamsContext.scopeOf(context).binding;
    RedisStreamsContext.beginAnswer(context);
    try {
      if (requestHandler) await this.#options.hooks.around(context, () => this.#run(requestHandler, writer));
      else writer.fail({ status: 'error', message: NO_HANDLER });
    } catch (error) {
      // Of a hook that has not run the handler.
      RedisStreamsContext.deliveryOf(context).failure = error;
      this.#options.reporter.handlingFailed(context.getMessage(), error, 'answered with an error');
      writer.fail({ status: 'error', message: INTERNAL_ERROR });
    }
    if (!writer.isWritten) this.#underWay.add(writer);
    while (this.#underWay.size > MAX_REPLIES_UNDER_WAY) await this.#untilFewer();
  }

  /** Never rejects: an error is the last reply. */
  async #run(handler: MessageHandler, writer: ReplyWriter): Promise<void> {
    const { context } = writer;
    try {
      const decoded = this.codec.decode(context.getMessage(), context.getPattern());
      const result: unknown = await handler(decoded instanceof Promise ? await decoded : decoded, context);
      if (isObservable(result)) {
        await this.#follow(result, writer);
      } else {
        writer.next(result);
        writer.complete();
      }
    } catch (error) {
      RedisStreamsContext.deliveryOf(context).failure = error;
      writer.fail(error);
    }
  }

  #follow(values: Observable<unknown>, writer: ReplyWriter): Promise<void> {
    const { replyTo } = writer.request;
    this.#watch.add(writer);
    this.#streams.beginAnswer(replyTo);
    return writer.follow(values).finally(() => {
      this.#watch.delete(writer);
      this.#streams.endAnswer(replyTo);
    });
  }

  /** A stream of answers has a time to live from its first one on: its client may be gone before the last one. */
  onFirstReply(writer: ReplyWriter): void {
    // From now on the client waits for the next reply.
    RedisStreamsContext.deliveryOf(writer.context).deadline = undefined;
    this.#streams.replied(writer.request.replyTo);
  }

  #abandon(writer: ReplyWriter, isStreamGone: boolean): void {
    const { id, streamKey } = writer.context.getMessage();
    this.#options.logger.debug(`The answer to request ${id} of '${streamKey}' ends: its client no longer reads it`);
    RedisStreamsContext.deliveryOf(writer.context).abort('cancelled');
    writer.abandon();
    if (isStreamGone) this.#streams.createdAgain(writer.request.replyTo);
  }

  onWritten(writer: ReplyWriter): void {
    const { context, failure } = writer;
    const { id, streamKey } = context.getMessage();
    if (failure === undefined) this.#streams.replied(writer.request.replyTo);
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
}

function isTooLong(header: string): boolean {
  return header.length > MAX_HEADER_LENGTH;
}
