import { RedisStreamer } from '../../../lib/index.js';
import type { ShardOwnerDetails, StreamManager } from '../../../lib/index.js';
import { RedisCluster } from '../../../test/support/redis-cluster.js';
import type { ClusterNode } from '../../../test/support/redis-cluster.js';
import { Service } from '../../driver/service.js';
import type { ServiceEvent } from '../../driver/service.js';
import { STREAM } from '../shop.js';

export interface FleetListener {
  /** Called with each line that a service logs about itself. */
  onEvent(service: string, event: ServiceEvent): void;
  /** Called with any other line that it prints. */
  onText(service: string, line: string): void;
}

/** Milliseconds without an answer after which the other nodes elect a replica. */
const NODE_TIMEOUT = 4_000;
/** What a node has stored is still there after a kill of its process; while a master is down, the others serve their slots. */
const SETTINGS = '--appendonly yes --appendfsync no --cluster-require-full-coverage no'.split(' ');

/** What a failover looks like to this process is of no interest. */
const SILENT = { error: () => undefined, warn: () => undefined, log: () => undefined };

/** The cluster of six nodes and the services that use it. {@link close} ends every process, also after a failure. */
export class Fleet {
  readonly cluster: RedisCluster;
  readonly #listener: FleetListener;
  readonly #services = new Map<string, Service>();
  readonly #streamer: RedisStreamer;
  readonly #manager: StreamManager;

  static async open(listener: FleetListener): Promise<Fleet> {
    const cluster = await RedisCluster.start({ replicas: true, nodeTimeout: NODE_TIMEOUT, args: SETTINGS });
    try {
      const streamer = await RedisStreamer.connect(cluster.connection, { timeout: 5_000, logger: SILENT });
      return new Fleet(cluster, streamer, await streamer.createManager(), listener);
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  private constructor(cluster: RedisCluster, streamer: RedisStreamer, manager: StreamManager, listener: FleetListener) {
    this.cluster = cluster;
    this.#streamer = streamer;
    this.#manager = manager;
    this.#listener = listener;
  }

  /** @param name `billing-2` is an instance of the program `billing` */
  async start(name: string): Promise<void> {
    const service = new Service({
      name,
      program: new URL(`../${name.replace(/-\d+$/, '')}.js`, import.meta.url),
      env: { CLUSTER_NODES: this.cluster.nodes.map(addressOf).join(','), NO_COLOR: '1' },
      onEvent: (event) => this.#listener.onEvent(name, event),
      onText: (line) => this.#listener.onText(name, line),
    });
    this.#services.set(name, service);
    await service.ready();
  }

  /** SIGKILL. */
  async kill(name: string): Promise<void> {
    const service = this.#services.get(name);
    this.#services.delete(name);
    await service?.kill();
  }

  /** Stops the instances of a program gracefully; throws if one had to be killed. */
  async stop(program: string): Promise<void> {
    const services = [...this.#services.values()].filter(({ name }) => name.startsWith(`${program}-`));
    for (const { name } of services) this.#services.delete(name);
    const stopped = await Promise.all(services.map((service) => service.stop()));
    const killed = services.filter((_, index) => !stopped[index]).map(({ name }) => name);
    if (killed.length > 0) throw new Error(`did not stop on SIGTERM and had to be killed: ${killed.join(', ')}`);
  }

  /** Who owns each shard, as any program can ask Redis. */
  owners(): Promise<ShardOwnerDetails[]> {
    return this.#manager.owners(STREAM, 'billing');
  }

  /** The master that serves a shard, according to a node that is up. */
  masterOf(shard: number): Promise<ClusterNode> {
    return this.cluster.masterOf(keyOf(shard));
  }

  /** Moves the slot of a shard to another master, while it is read and written; resolves when all nodes know it. */
  async move(shard: number, target: ClusterNode): Promise<void> {
    await this.cluster.move(keyOf(shard), target);
    await this.cluster.untilServedBy(keyOf(shard), target);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#services.values()].map((service) => service.stop()));
    await this.#streamer.disconnect();
    await this.cluster.stop();
  }
}

export function addressOf({ server }: ClusterNode): string {
  return `${server.host}:${server.port}`;
}

function keyOf(shard: number): string {
  return `${STREAM}:${shard}`;
}
