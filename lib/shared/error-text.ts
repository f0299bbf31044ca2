import { types } from 'node:util';

/** What was thrown, as text for a log: an Error's message, an object as JSON, anything else as it prints. */
export function errorText(thrown: unknown): string {
  // Not by `instanceof`: an error may come from another realm, as those of Node's own modules do inside a VM context.
  if (types.isNativeError(thrown)) return thrown.message;
  if (typeof thrown === 'string') return thrown;
  try {
    return JSON.stringify(thrown) ?? typeof thrown;
  } catch {
    return Object.prototype.toString.call(thrown);
  }
}

/** The same with the stack, where there is one. */
export function errorTextWithStack(thrown: unknown): string {
  return (types.isNativeError(thrown) && thrown.stack) || errorText(thrown);
}
