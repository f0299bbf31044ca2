import type { BaseRpcContext, Transport } from '@nestjs/microservices';

import { withResolvers } from '../../shared/deferred.js';

/** The hooks that instrumentation sets on a server; either may be missing in older versions of Nest. */
export interface ProcessingHooks {
  readonly start:
    ((transportId: Transport | symbol, context: BaseRpcContext, done: () => Promise<unknown>) => void) | undefined;
  readonly end: ((transportId: Transport | symbol, context: BaseRpcContext) => void) | undefined;
}

/**
 * Runs the work between Nest's processing hooks. Its outcome is taken from the work itself: what a hook returns says
 * nothing about when, or how, the work ended.
 */
export function runWithHooks<T>(
  transportId: Transport | symbol,
  { start, end }: ProcessingHooks,
  context: BaseRpcContext,
  work: () => Promise<T>,
): Promise<T> {
  if (!start && !end) return work();
  const outcome = withResolvers<T>();
  const run = async (): Promise<void> => {
    try {
      outcome.resolve(await work());
    } catch (error) {
      outcome.reject(error);
    } finally {
      end?.(transportId, context);
    }
  };
  if (start) start(transportId, context, run);
  else void run();
  return outcome.promise;
}
