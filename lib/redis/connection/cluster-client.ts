import type { Cluster, Redis, RedisOptions } from 'ioredis';

/**
 * What ioredis must not send a second time when its slot has been, or is being, moved: it would be overtaken by what was
 * sent later. Whoever appends repeats all of it in its old order.
 */
const APPENDS: ReadonlySet<string> = new Set(['xadd', 'eval', 'evalsha']);
const OVERTAKEN = /^(?:MOVED|TRYAGAIN) /;

const ENDING: readonly string[] = ['disconnecting', 'close', 'end'];

/** Settings that every cluster client has, whoever made it. */
export const CLUSTER_SETTINGS = Object.freeze({
  clusterRetryStrategy: () => null,
  // 0: ioredis must not send a command a second time after a node was lost, it may have run.
  retryDelayOnFailover: 0,
  retryDelayOnClusterDown: 0,
});

/**
 * Puts right what ioredis leaves undone for a cluster. Returns the client itself.
 * @param isWriter if it is for appends
 * @param nodeOptions settings of the connection to each of its nodes, where they are not among its own
 */
export function guardCluster(cluster: Cluster, isWriter: boolean, nodeOptions: RedisOptions = {}): Cluster {
  guardNodes(cluster, nodeOptions);
  endRefreshes(cluster);
  if (isWriter) keepOrder(cluster);
  return cluster;
}

/** ASKING is sent and its promise forgotten: a node that cannot be reached would end the process by a rejection. */
function guardNodes(cluster: Cluster, nodeOptions: RedisOptions): void {
  const guard = (node: Redis): void => {
    // Before it connects, because that is left to its first command.
    Object.assign(node.options, nodeOptions);
    const ask = node.asking.bind(node);
    node.asking = () => {
      const asked = ask();
      asked.catch(() => undefined);
      return asked;
    };
  };
  cluster.nodes().forEach(guard);
  cluster.on('+node', guard);
}

/** A refresh of the slots that is under way when the client ends would start the timer for the next one, for ever. */
function endRefreshes(cluster: Cluster): void {
  const refresh = cluster.refreshSlotsCache.bind(cluster);
  cluster.refreshSlotsCache = (callback) =>
    refresh((error) => {
      if (!ENDING.includes(cluster.status)) callback?.(error);
    });
  cluster.once('end', () => clearTimeout((cluster as unknown as { slotsTimer?: NodeJS.Timeout }).slotsTimer));
}

function keepOrder(cluster: Cluster): void {
  const handle = cluster.handleError.bind(cluster);
  cluster.handleError = (error: Error & { command?: { name: string } }, ttl, handlers) => {
    if (APPENDS.has(error.command?.name ?? '') && OVERTAKEN.test(error.message)) handlers.defaults();
    else handle(error, ttl, handlers);
  };
}
