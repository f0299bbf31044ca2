import type { ClusterConnection } from '../../lib/index.js';

/** The payload of the event `orders`. */
export interface Order {
  /** The key: the orders of one customer are charged in the order in which they were placed. */
  readonly customer: string;
  /** 1 for the first order of this customer, 2 for the second, and so on. */
  readonly number: number;
}

export const STREAM = 'orders';
/** A number that does not change later: it decides to which shard a customer belongs. */
export const SHARDS = 12;

/** Some nodes of the cluster; the others are found through them. */
export const connection: ClusterConnection = {
  cluster: (process.env['CLUSTER_NODES'] ?? '127.0.0.1:7000').split(',').map((node) => {
    const [host = '', port] = node.split(':');
    return { host, port: Number(port) };
  }),
};

/** The name of this process. */
export const instance = process.env['INSTANCE'] ?? `instance-${process.pid}`;

/** Logs an event as one line of JSON, which the driver reads. */
export function log(event: string, details: Record<string, unknown> = {}): void {
  process.stdout.write(`${JSON.stringify({ event, ...details })}\n`);
}
