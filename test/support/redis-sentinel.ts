import { Redis, type RedisOptions } from 'ioredis';

import { endClient, nodeClient } from './node-client.js';
import { RedisServer } from './redis-server.js';
import { until } from './until.js';

export interface WatchedNode {
  readonly server: RedisServer;
  /** A client of our own, for this node alone; it comes back when the node does. */
  readonly admin: Redis;
}

const NAME = 'orders';
const DOWN_AFTER = 1_000;
const REPLICAS = 2;
const SENTINELS = 3;

/** One master, two replicas and three sentinels that watch them; all of them private servers on loopback. */
export class WatchedRedis {
  readonly #data: WatchedNode[] = [];
  readonly #sentinels: WatchedNode[] = [];

  static async start(): Promise<WatchedRedis> {
    const watched = new WatchedRedis();
    try {
      await watched.#start();
      return watched;
    } catch (error) {
      await watched.stop();
      throw error;
    }
  }

  private constructor() {}

  get connection(): RedisOptions {
    return { sentinels: this.#sentinels.map(({ server }) => ({ host: server.host, port: server.port })), name: NAME };
  }

  /** The master that all sentinels name now; undefined while they disagree. */
  async master(): Promise<WatchedNode | undefined> {
    const replies = await Promise.all(
      this.#sentinels.map(({ admin }) => admin.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', NAME)),
    );
    const ports = new Set(replies.map((reply) => Number((reply as [string, string])[1])));
    return ports.size === 1 ? this.#data.find(({ server }) => ports.has(server.port)) : undefined;
  }

  /** Waits until the sentinels name another master, which knows that it is one, and returns that one. */
  async heirOf(master: WatchedNode): Promise<WatchedNode> {
    let heir: WatchedNode | undefined;
    const isReplaced = async (): Promise<boolean> => {
      heir = await this.master();
      return heir !== undefined && heir !== master && (await isMaster(heir));
    };
    await until('a replica has taken over', isReplaced, 20_000);
    return heir as WatchedNode;
  }

  /** Has the sentinels make a replica the master, although nothing is wrong. */
  async failOver(): Promise<void> {
    await (this.#sentinels[0] as WatchedNode).admin.call('SENTINEL', 'FAILOVER', NAME);
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

  async #addAll(to: WatchedNode[], count: number, start: () => Promise<RedisServer>): Promise<void> {
    // All are waited for even when one fails, because what was started has to be stopped.
    const starts = await Promise.allSettled(Array.from({ length: count }, () => this.#add(to, start)));
    for (const result of starts) if (result.status === 'rejected') throw result.reason;
  }

  async #add(to: WatchedNode[], start: () => Promise<RedisServer>): Promise<WatchedNode> {
    const server = await start();
    const node = { server, admin: nodeClient(server.url) };
    to.push(node);
    return node;
  }
}

async function isMaster({ admin }: WatchedNode): Promise<boolean> {
  return (await admin.info('replication')).includes('role:master');
}
