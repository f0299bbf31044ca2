import { setImmediate as nextTurn } from 'node:timers/promises';

import { ClosedError, ConnectionError } from '../../errors.js';
import { pause } from '../../shared/backoff.js';
import type { ConnectionRouter } from '../connection/connection-router.js';
import type { CommandSender } from './command-sender.js';
import { classifyRedisError, replyWord } from './redis-error.js';
import type { NodeCommands } from './stream-commands.js';

/** Milliseconds of silence after which a node counts as unreachable. */
const UNREACHABLE_AFTER = 2_000;

/** Asks the nodes of a cluster, of which one may be away. */
export class RedisNodeCommands implements NodeCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  reached(): Promise<void> {
    const { router, timeout } = this.#sender;
    return router.reached(timeout);
  }

  requireAny(): void {
    requireAnyMaster(this.#sender.router);
  }

  unlessUnreachable<T>(streamKey: string, work: () => Promise<T>): Promise<{ reply: T } | undefined> {
    return replyUnlessUnreachable(this.#sender.router, this.#sender.key(streamKey), work);
  }
}

/**
 * Waits for work on one node of a cluster, which is named as in {@link ConnectionRouter.connectionOf}. Undefined where the node is
 * unreachable: its connection breaks, or has been silent for two seconds. While a node is silent no work is begun, so commands do not pile
 * up: the reply that is due, or the next attempt to connect, shows that the node is back.
 */
export async function replyUnlessUnreachable<T>(
  router: ConnectionRouter,
  keyOrIndex: string | number,
  work: () => Promise<T>,
): Promise<{ reply: T } | undefined> {
  if (!router.isCluster) return { reply: await work() };
  const silentFor = (): number => router.connectionOf(keyOrIndex)?.silentFor ?? Infinity;
  if (await isSilent(silentFor)) return undefined;
  const end = new AbortController();
  try {
    return await Promise.race([work().then((reply) => ({ reply })), untilSilent(silentFor, end.signal)]);
  } catch (error) {
    if (isOfNode(error)) return undefined;
    throw error;
  } finally {
    end.abort();
  }
}

/** @throws ConnectionError when no master of the cluster answers */
export function requireAnyMaster(router: ConnectionRouter): void {
  for (let index = 0, master = router.connectionOf(index); master; master = router.connectionOf((index += 1))) {
    if (master.silentFor < UNREACHABLE_AFTER) return;
  }
  throw new ConnectionError('No master of the cluster answers');
}

async function untilSilent(silentFor: () => number, signal: AbortSignal): Promise<undefined> {
  do await pause(Math.max(1, UNREACHABLE_AFTER - silentFor()), signal);
  while (!signal.aborted && !(await isSilent(silentFor)));
}

async function isSilent(silentFor: () => number): Promise<boolean> {
  if (silentFor() < UNREACHABLE_AFTER) return false;
  // The process itself may have stood still; then replies wait in the socket, and are read in this turn.
  await nextTurn();
  return silentFor() >= UNREACHABLE_AFTER;
}

/** Whether the node is away, or does not serve the key: one that was restarted answers before it has found the others. */
function isOfNode(error: unknown): boolean {
  if (replyWord(error) === 'CLUSTERDOWN') return true;
  return classifyRedisError(error) === 'connection' && !(error instanceof ClosedError);
}
