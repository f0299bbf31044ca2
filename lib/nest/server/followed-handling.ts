import type { GuardedTelemetry } from '../../engine/telemetry/guarded-telemetry.js';
import type { ProcessDetails, ProcessOutcome } from '../../engine/telemetry/telemetry.js';
import { StreamMessage } from '../../engine/messages/stream-message.js';
import { RedisStreamsContext } from '../redis-streams.context.js';
import type { ContextScope } from '../redis-streams.context.js';

/**
 * Has the telemetry follow the handlers of a server. It knows those that run, because a handler may still run when the server has
 * closed, and what follows it must end all the same.
 */
export class FollowedHandling {
  readonly #running = new Set<() => void>();
  /** The last ones of each consumer, because those of its next message are mostly equal. */
  readonly #details = new WeakMap<ContextScope, ProcessDetails>();

  /** Handles a message, or the batch of one handler, in the operation that the telemetry starts for it. */
  handle(
    telemetry: GuardedTelemetry,
    kind: ProcessDetails['kind'],
    contexts: readonly RedisStreamsContext[],
    handle: () => Promise<void>,
  ): Promise<void> {
    const messages = contexts.map((context) => context.getMessage());
    const operation = telemetry.startProcess(messages, this.#detailsOf(telemetry, kind, contexts, messages));
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

  #detailsOf(
    { source }: GuardedTelemetry,
    kind: ProcessDetails['kind'],
    contexts: readonly RedisStreamsContext[],
    messages: readonly StreamMessage[],
  ): ProcessDetails {
    const [first] = messages as readonly [StreamMessage];
    const scope = RedisStreamsContext.scopeOf(contexts[0] as RedisStreamsContext);
    const { streamKey } = first;
    const shardId = sharedShardOf(messages);
    const last = this.#details.get(scope);
    if (last?.kind === kind && last.streamKey === streamKey && last.shardId === shardId) return last;
    const { binding, group, consumer } = scope;
    const isBatch = binding.batch !== undefined;
    const details = { kind, pattern: binding.pattern, streamKey, shardId, group, consumer, isBatch, source };
    this.#details.set(scope, details);
    return details;
  }
}

/** Undefined when the stream is not sharded, or the messages are of several shards. */
function sharedShardOf(messages: readonly StreamMessage[]): number | undefined {
  const [first] = messages as readonly [StreamMessage];
  const { streamKey, shardId } = first;
  if (StreamMessage.shardOf(first).key === streamKey) return undefined;
  return messages.every((message) => message.streamKey === streamKey && message.shardId === shardId)
    ? shardId
    : undefined;
}

function outcomeOf(context: RedisStreamsContext): ProcessOutcome {
  const { settlement, failure, isExpired } = RedisStreamsContext.deliveryOf(context);
  const isHandledAlone = settlement?.kind === 'alone';
  return {
    message: context.getMessage(),
    settlement: isHandledAlone ? undefined : settlement?.kind,
    delay: settlement?.kind === 'retry' ? settlement.delay : undefined,
    reason: settlement?.kind === 'dead-letter' ? settlement.reason : undefined,
    error: failure,
    isExpired,
    ...(isHandledAlone && { isHandledAlone }),
  };
}
