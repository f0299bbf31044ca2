import type { GuardedTelemetry } from '../../engine/telemetry/guarded-telemetry.js';
import type { ProcessDetails, ProcessOutcome } from '../../engine/telemetry/telemetry.js';
import { StreamMessage } from '../../engine/messages/stream-message.js';
import { RedisStreamsContext } from '../redis-streams.context.js';

/**
 * Has the telemetry follow the handlers of a server. It knows those that run, because a handler may still run when the server has
 * closed, and what follows it must end all the same.
 */
export class FollowedHandling {
  readonly #running = new Set<() => void>();

  /** Handles a message, or the batch of one handler, in the operation that the telemetry starts for it. */
  handle(
    telemetry: GuardedTelemetry,
    kind: ProcessDetails['kind'],
    contexts: readonly RedisStreamsContext[],
    handle: () => Promise<void>,
  ): Promise<void> {
    const messages = contexts.map((context) => context.getMessage());
    const operation = telemetry.startProcess(messages, detailsOf(telemetry, kind, contexts, messages));
    if (!operation) return handle();
    const end = (): void => {
      this.#running.delete(end);
      operation.end(contexts.map(outcomeOf));
    };
    this.#running.add(end);
    return operation.run(handle).then(end, (error: unknown) => {
      end();
      throw error;
    });
  }

  /** Ends the operations of handlers that still run; their messages stay pending. */
  giveUp(): void {
    for (const end of this.#running) end();
  }
}

function detailsOf(
  { source }: GuardedTelemetry,
  kind: ProcessDetails['kind'],
  contexts: readonly RedisStreamsContext[],
  messages: readonly StreamMessage[],
): ProcessDetails {
  const [first] = messages as readonly [StreamMessage];
  const { binding, group, consumer } = RedisStreamsContext.scopeOf(contexts[0] as RedisStreamsContext);
  const { streamKey, shardId } = first;
  const isSharded = StreamMessage.shardOf(first).key !== streamKey;
  const isOneShard = messages.every((message) => message.streamKey === streamKey && message.shardId === shardId);
  return {
    kind,
    pattern: binding.pattern,
    streamKey,
    shardId: isSharded && isOneShard ? shardId : undefined,
    group,
    consumer,
    isBatch: binding.batch !== undefined,
    source,
  };
}

function outcomeOf(context: RedisStreamsContext): ProcessOutcome {
  const { settlement, failure, isExpired } = RedisStreamsContext.deliveryOf(context);
  return {
    message: context.getMessage(),
    settlement: settlement?.kind,
    delay: settlement?.kind === 'retry' ? settlement.delay : undefined,
    reason: settlement?.kind === 'dead-letter' ? settlement.reason : undefined,
    error: failure,
    isExpired,
  };
}
