import { AsyncResource } from 'node:async_hooks';

/** Made when the package is loaded, which is before the first request in every usual application. */
const loading = new AsyncResource('RedisStreams');

/**
 * Runs work outside of the async context of its caller, with an empty context of its own. Loops and connections outlive
 * the request that happens to start them: they would keep its stores of AsyncLocalStorage, show them to everything that
 * they call, and add their spans to its trace. What the work enters by `enterWith` ends with it.
 */
export function outsideContext<T>(work: () => T): T {
  return loading.runInAsyncScope(runIsolated, undefined, work) as T;
}

/** With a resource for each call: before Node.js 24, `enterWith` changes the resource in which it is called. */
function runIsolated<T>(work: () => T): T {
  return new AsyncResource('RedisStreamsWork').runInAsyncScope(work);
}
