import type { BaseRpcContext, Server, Transport } from '@nestjs/microservices';

import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import { withResolvers } from '../../shared/deferred.js';
import type { RedisStreamsEvents } from '../redis-streams.events.js';

type StartHook = (transportId: Transport | symbol, context: BaseRpcContext, done: () => Promise<unknown>) => void;
type EndHook = (transportId: Transport | symbol, context: BaseRpcContext) => void;

/** The processing hooks that instrumentation sets on a server. Nest 11 has none. */
export class ProcessingHooks {
  readonly #server: Server<RedisStreamsEvents, RedisStreamsStatus>;
  /** The hook that Nest itself sets: it only does the work, so the work can be done without it. */
  readonly #noStartHook: StartHook | undefined;

  constructor(server: Server<RedisStreamsEvents, RedisStreamsStatus>) {
    this.#server = server;
    this.#noStartHook = server['onProcessingStartHook'];
  }

  /**
   * Runs the work between the hooks. The outcome is that of the work itself: the return value of a hook does not tell
   * when, or how, the work ended.
   */
  around(context: BaseRpcContext, work: () => Promise<void>): Promise<void> {
    const start = this.#server['onProcessingStartHook'] as StartHook | undefined;
    const end = this.#server['onProcessingEndHook'] as EndHook | undefined;
    const hasStart = start !== undefined && start !== this.#noStartHook;
    if (!hasStart && !end) return work();
    const transportId = this.#server.transportId as Transport | symbol;
    const outcome = withResolvers<void>();
    const run = async (): Promise<void> => {
      try {
        outcome.resolve(await work());
      } catch (error) {
        outcome.reject(error);
      } finally {
        end?.(transportId, context);
      }
    };
    if (hasStart) start(transportId, context, run);
    else void run();
    return outcome.promise;
  }
}
