import type { BaseRpcContext, Server, Transport } from '@nestjs/microservices';

import { CallbackError } from '../../errors.js';
import type { RedisStreamsStatus } from '../../redis/connection/redis-connections.js';
import { callSafely } from '../../shared/callbacks.js';
import { withResolvers } from '../../shared/deferred.js';
import type { RedisStreamsEvents } from '../redis-streams.events.js';
import type { ServerReporter } from './server-reporter.js';

type StartHook = (transportId: Transport | symbol, context: BaseRpcContext, done: () => Promise<unknown>) => unknown;
type EndHook = (transportId: Transport | symbol, context: BaseRpcContext) => unknown;

/** The processing hooks that instrumentation sets on a server. Nest 11 has none. */
export class ProcessingHooks {
  readonly #server: Server<RedisStreamsEvents, RedisStreamsStatus>;
  readonly #reporter: ServerReporter;
  /** The hook that Nest itself sets: it only does the work, so the work can be done without it. */
  readonly #noStartHook: StartHook | undefined;

  constructor(server: Server<RedisStreamsEvents, RedisStreamsStatus>, reporter: ServerReporter) {
    this.#server = server;
    this.#reporter = reporter;
    this.#noStartHook = server['onProcessingStartHook'];
  }

  /**
   * Runs the work between the hooks, once. The outcome is that of the work itself: the return value of a hook does not tell
   * when, or how, the work ended. A hook that fails before it has run the work makes the work fail.
   */
  around(context: BaseRpcContext, work: () => Promise<void>): Promise<void> {
    const start = this.#server['onProcessingStartHook'] as StartHook | undefined;
    const end = this.#server['onProcessingEndHook'] as EndHook | undefined;
    const hasStart = start !== undefined && start !== this.#noStartHook;
    if (!hasStart && !end) return work();
    const transportId = this.#server.transportId as Transport | symbol;
    const outcome = withResolvers<void>();
    let running: Promise<void> | undefined;
    const run = async (): Promise<void> => {
      try {
        outcome.resolve(await work());
      } catch (error) {
        outcome.reject(error);
      }
      callSafely(
        () => end?.(transportId, context),
        (error) => this.#reporter.callbackFailed('onProcessingEndHook', error),
      );
    };
    const runOnce = (): Promise<void> => (running ??= run());
    callSafely(
      () => (hasStart ? start(transportId, context, runOnce) : runOnce()),
      (error) => {
        if (running) this.#reporter.callbackFailed('onProcessingStartHook', error);
        else outcome.reject(new CallbackError('onProcessingStartHook', error));
        running ??= Promise.resolve();
      },
    );
    return outcome.promise;
  }
}
