import { types } from 'node:util';

/** A thrown value as text for a log: the message of an Error, an object as JSON. */
export function errorText(thrown: unknown): string {
  // Not `instanceof`: an error may come from another realm, as errors of Node's own modules do inside a VM context.
  if (types.isNativeError(thrown)) return thrown.message;
  if (typeof thrown === 'string') return thrown;
  // The reason of AbortSignal.timeout() is a DOMException, which is no native error, and has no properties as JSON.
  if (thrown instanceof DOMException) return thrown.message;
  try {
    return JSON.stringify(thrown) ?? typeof thrown;
  } catch {
    return Object.prototype.toString.call(thrown);
  }
}

/** The stack of an Error that has one; otherwise as {@link errorText}. */
export function errorTextWithStack(thrown: unknown): string {
  return (types.isNativeError(thrown) && thrown.stack) || errorText(thrown);
}
