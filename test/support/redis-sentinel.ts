import { Redis, type RedisOptions } from 'ioredis';

import { endClient, nodeClient } from './node-client.js';
import { RedisServer } from './redis-server.js';
import { until } from './until.js';

export interface RedisNode {
  readonly server: RedisServer;
  /** A plain client for this node alone; it reconnects when the node is back. */
  readonly admin: Redis;
}

const NAME = 'orders';
const DOWN_AFTER = 1_000;
const REPLICAS = 2;
const SENTINELS = 3;

/** One master, two replicas and three sentinels that monitor them, as private servers on loopback. */
export class SentinelRedis {
  readonly #data: RedisNode[] = [];
  readonly #sentinels: RedisNode[] = [];

  static async start(): Promise<SentinelRedis> {
    const redis = new SentinelRedis();
    try {
      await redis.#start();
      return redis;
    } catch (error) {
      await redis.stop();
      throw error;
    }
  }

  private constructor() {}

  get connection(): RedisOptions {
    return { sentinels: this.#sentinels.map(({ server }) => ({ host: server.host, port: server.port })), name: NAME };
  }

  /** The master that all sentinels currently name; undefined while they disagree. */
  async master(): Promise<RedisNode | undefined> {
    const replies = await Promise.all(
      this.#sentinels.map(({ admin }) => admin.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)),
    );
    const ports = new Set(replies.map((reply) => Number((reply as [string, string])[1])));
    return ports.size === 1 ? this.#data.find(({ server }) => ports.has(server.port)) : undefined;
  }

  /** Waits until the sentinels name another master and that node has the role master; returns that node. */
  async successorOf(master: RedisNode): Promise<RedisNode> {
    let successor: RedisNode | undefined;
    const isReplaced = async (): Promise<boolean> => {
      successor = await this.master();
      return successor !== undefined && successor !== master && (await isMaster(successor));
    };
    await until('a replica has taken over', isReplaced, 20_000);
    return successor as RedisNode;
  }

  /** Forces a failover while the master is healthy. */
  async failOver(): Promise<void> {
    await (this.#sentinels[0] as RedisNode).admin.call('SENTINEL', 'FAILOVER', NAME);
  }

  async stop(): Promise<void> {
    const nodes = [...this.#sentinels, ...this.#data];
    for (const { admin } of nodes) endClient(admin);
    await Promise.all(nodes.map(({ server }) => server.stop()));
  }

  async #start(): Promise<void> {
    const args = ['--appendonly', 'no', '--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
    const master = await this.#add(this.#data, () => RedisServer.start({ args }));
    const { host, port } = master.server;
    const replicaArgs = [...args, '--replicaof', host, String(port)];
    await this.#addAll(this.#data, REPLICAS, () => RedisServer.start({ args: replicaArgs }));
    await until('the replicas have caught up', async () => {
      const info = await master.admin.info('replication');
      return (info.match(/^slave\d:.*state=online/gm) ?? []).length === REPLICAS;
    });
    const config = [
      `sentinel monitor ${NAME} ${host} ${port} ${Math.ceil(SENTINELS / 2)}`,
      `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER}`,
      `sentinel failover-timeout ${NAME} 5000`,
      '',
    ].join('\n');
    await this.#addAll(this.#sentinels, SENTINELS, () => RedisServer.start({ config, args: ['--sentinel'] }));
    await until('the sentinels know each other and the replicas', async () => {
      const states = await Promise.all(this.#sentinels.map(({ admin }) => admin.call('SENTINEL', 'MASTER', NAME)));
      return states.every((state) => {
        const facts = state as string[];
        const valueOf = (name: string): number => Number(facts[facts.indexOf(name) + 1]);
        return valueOf('num-other-sentinels') === SENTINELS - 1 && valueOf('num-slaves') === REPLICAS;
      });
    });
  }

  async #addAll(to: RedisNode[], count: number, start: () => Promise<RedisServer>): Promise<void> {
    // Waits for all starts, even when one fails, because every started server must be stopped.
    const starts = await Promise.allSettled(Array.from({ length: count }, () => this.#add(to, start)));
    for (const result of starts) if (result.status === 'rejected') throw result.reason;
  }

  async #add(to: RedisNode[], start: () => Promise<RedisServer>): Promise<RedisNode> {
    const server = await start();
    const node = { server, admin: nodeClient(server.url) };
    to.push(node);
    return node;
  }
}

async function isMaster({ admin }: RedisNode): Promise<boolean> {
  return (await admin.info('replication')).includes('role:master');
}
