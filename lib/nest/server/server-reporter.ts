import type { ShardAssignment } from '../../engine/consuming/ownership/shard-assignment.js';
import type { StreamMessage } from '../../engine/messages/stream-message.js';
import { CallbackError, HandlerError, PayloadDecodeError, PayloadInvalidError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { errorText, errorTextWithStack } from '../../shared/error-text.js';
import { callSafely } from '../../shared/callbacks.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import type { RedisStreamsContext } from '../redis-streams.context.js';
import type { EventListeners } from '../event-listeners.js';
import type { DeadLetterEvent, RetryEvent } from '../redis-streams.events.js';
import type { ServerRedisStreamsOptions } from '../redis-streams.options.js';

/** Reports the fate of a server's messages: first in the log, then to the listeners of `on()` and to `onDeadLetter`. */
export class ServerReporter {
  readonly #logger: Required<RedisStreamsLogger>;
  readonly #listeners: EventListeners;
  readonly #onDeadLetter: ServerRedisStreamsOptions['onDeadLetter'];
  readonly #onFailure: (error: RedisStreamsError) => void;
  /** Streams of dead letters of which it has warned that they are trimmed. */
  readonly #trimmed = new Set<string>();
  #expired = 0;
  /** Streams of which it has warned that events expire. */
  readonly #withExpired = new Set<string>();

  constructor(
    logger: Required<RedisStreamsLogger>,
    listeners: EventListeners,
    onDeadLetter?: ServerRedisStreamsOptions['onDeadLetter'],
    onFailure: (error: RedisStreamsError) => void = () => undefined,
  ) {
    this.#logger = logger;
    this.#listeners = listeners;
    this.#onDeadLetter = onDeadLetter;
    this.#onFailure = onFailure;
  }

  /** A read, an acknowledgement or the end of a consumer failed. */
  failed(error: RedisStreamsError): void {
    this.#logger.error(error.message);
    this.#onFailure(error);
    this.#listeners.emit('error', error);
  }

  /** @param outcome how the message was settled */
  handlingFailed(message: StreamMessage, error: unknown, outcome: string): void {
    this.#logger.error(
      `Handling ${message.id} of '${message.streamKey}' failed (delivery ${message.deliveryCount}, ${outcome}): ` +
        // The stack would be that of this package, and a sender could fill the log with it.
        (isOfPayload(error) ? errorText(error) : errorTextWithStack(error)),
    );
    this.#listeners.emit('error', error instanceof Error ? error : new HandlerError(errorText(error), error));
  }

  /** A batch is handled once more, message by message. */
  batchFailed(first: RedisStreamsContext, size: number, error: unknown): void {
    this.#logger.warn(
      `The handler of '${first.getPattern()}' failed with a batch, of which ${size} messages are now handled one by one: ` +
        errorText(error),
    );
  }

  /** A handler has thrown the exception `request`, which asks for a retry or a dead letter. */
  settledAsAsked({ id, streamKey, deliveryCount }: StreamMessage, request: string, outcome: string): void {
    this.#logger.debug(
      `The handler of ${id} of '${streamKey}' threw ${request} (delivery ${deliveryCount}, ${outcome})`,
    );
  }

  /** An exception filter has ended the failure of a handler without an error. */
  endedByFilter(context: RedisStreamsContext, error: unknown): void {
    this.#logger.warn(
      `An exception filter ended an error of the handler of '${context.getPattern()}' without an error of its own, so the ` +
        `message counts as handled; this is reported once for each handler: ${errorText(error)}`,
    );
  }

  /** A function that the application gave has failed; what it should decide or receive is settled without it. */
  callbackFailed(name: string, error: unknown): void {
    const failure = new CallbackError(name, error);
    this.#logger.error(`${failure.message}${error instanceof Error && error.stack ? `\n${error.stack}` : ''}`);
    this.#onFailure(failure);
    this.#listeners.emit('error', failure);
  }

  assigned(assignment: ShardAssignment): void {
    this.#logger.log(`Owns ${nameOf(assignment)}`);
    this.#listeners.emit('assigned', assignment);
  }

  revoked(assignment: ShardAssignment): void {
    this.#logger.log(`No longer owns ${nameOf(assignment)}`);
    this.#listeners.emit('revoked', assignment);
  }

  retrying(event: RetryEvent): void {
    this.#listeners.emit('retry', event);
  }

  deadLettered(event: DeadLetterEvent): void {
    const { message, deadLetterStream, reason, trimmed = 0 } = event;
    this.#logger.warn(`Message ${message.id} of '${message.streamKey}' is now in '${deadLetterStream}': ${reason}`);
    if (trimmed > 0 && !this.#trimmed.has(deadLetterStream)) {
      this.#trimmed.add(deadLetterStream);
      this.#logger.warn(
        `'${deadLetterStream}' has more than deadLetter.maxLen entries: its ${trimmed} oldest were deleted. Further ` +
          `deletions are not logged; the event 'deadLetter' counts them`,
      );
    }
    this.#listeners.emit('deadLetter', event);
    callSafely(
      () => this.#onDeadLetter?.(event),
      (error) => this.callbackFailed('onDeadLetter', error),
    );
  }

  /** A message was read after its time. */
  expired(message: StreamMessage, expiresAt: number): void {
    const { id, streamKey } = message;
    this.#expired += 1;
    const text = `Event ${id} of '${streamKey}' had expired when it was read, and was not handled`;
    if (this.#withExpired.has(streamKey)) {
      this.#logger.debug(text);
    } else {
      this.#withExpired.add(streamKey);
      this.#logger.warn(`${text}. Further ones of this stream are logged as debug; the event 'expired' counts them`);
    }
    this.#listeners.emit('expired', { message, expiresAt: new Date(expiresAt), total: this.#expired });
  }

  /** A context was asked to settle its message, without effect. */
  ignored({ id, streamKey }: StreamMessage, attempted: string, reason: string): void {
    this.#logger.warn(`${attempted} ignored for message ${id} of '${streamKey}': ${reason}`);
  }
}

function isOfPayload(error: unknown): boolean {
  return error instanceof PayloadDecodeError || error instanceof PayloadInvalidError;
}

function nameOf({ streamKey, shardId, generation }: ShardAssignment): string {
  return `shard ${shardId} of '${streamKey}' (generation ${generation})`;
}
