import type { ArgumentsHost } from '@nestjs/common';
import { BaseRpcExceptionFilter } from '@nestjs/microservices';
import type { Observable } from 'rxjs';

/** Failures as handlers threw them, by the context of the message. */
const failures = new WeakMap<object, unknown>();

const OBSERVED = Symbol.for('nestjs-redis-streams:observed');

type Catch = (this: BaseRpcExceptionFilter, exception: unknown, host: ArgumentsHost) => Observable<unknown>;

/**
 * Nest's exception filter replaces an error by "Internal server error" before a transport sees it, which would make logs
 * and dead letters useless. This looks at what the filter is given, notes it with the message's context, and changes nothing.
 */
export function observeHandlerFailures(): void {
  const prototype = BaseRpcExceptionFilter.prototype as unknown as { catch: Catch & { [OBSERVED]?: true } };
  if (prototype.catch[OBSERVED]) return;
  const original = prototype.catch;
  const observing: Catch = function (exception, host) {
    const context: unknown = host.getArgByIndex(1);
    if (typeof context === 'object' && context !== null) failures.set(context, exception);
    return original.call(this, exception, host);
  };
  prototype.catch = Object.assign(observing, { [OBSERVED]: true as const });
}

/** The error behind a failure: as it was thrown, if Nest's filter has seen it, else as it arrived here. */
export function originalFailure(context: object, arrived: unknown): unknown {
  return failures.has(context) ? failures.get(context) : arrived;
}
