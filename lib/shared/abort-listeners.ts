/** What waits for each signal that something waits for. */
const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/**
 * Calls back when the signal aborts, until the function that it returns is called. A signal of the application may end many
 * waits at once, and Node.js takes its eleventh listener for a leak: all of ours are one listener, which is removed with the last.
 */
export function onceAborted(signal: AbortSignal, callback: () => void): () => void {
  const callbacks = waiting.get(signal) ?? listenTo(signal);
  callbacks.add(callback);
  return () => {
    callbacks.delete(callback);
    if (callbacks.size > 0 || waiting.get(signal) !== callbacks) return;
    waiting.delete(signal);
    signal.removeEventListener('abort', callAll);
  };
}

function listenTo(signal: AbortSignal): Set<() => void> {
  const callbacks = new Set<() => void>();
  waiting.set(signal, callbacks);
  signal.addEventListener('abort', callAll);
  return callbacks;
}

function callAll(this: AbortSignal): void {
  for (const callback of waiting.get(this) ?? []) callback();
}
