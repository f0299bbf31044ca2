import type { Redis } from 'ioredis';

import type { ClusterConnection } from '../../lib/index.js';
import type { FaultProxy } from './fault-proxy.js';
import { freePort } from './free-port.js';
import { endClient, nodeClient } from './node-client.js';
import { RedisServer } from './redis-server.js';
import { until } from './until.js';

export interface ClusterNode {
  readonly server: RedisServer;
  /** A plain client for this node alone; it reconnects when the node is back. */
  readonly admin: Redis;
  readonly id: string;
}

export interface RedisClusterOptions {
  /** Starts one replica for each master. Default: false. */
  replicas?: boolean;
  /** Milliseconds without an answer after which a node counts as failed; long by default, for machines that are busy. */
  nodeTimeout?: number;
  /** Further arguments of every server. */
  args?: readonly string[];
}

type SlotRange = [first: number, last: number, master: [host: string, port: number, id: string]];

/** The offset of the cluster bus port from the client port; Redis 6.0 cannot change it. */
const BUS_OFFSET = 10_000;
/** An election in which no majority votes in time is repeated, several times on a busy machine. */
const ELECTION_LIMIT = 60_000;
/** How long nodes may take to know each other by gossip, which takes 3 s at most on a quiet machine. */
const GOSSIP_LIMIT = 8_000;
/** The same on a busy machine, and until they know whose the slots are. */
const FORMING_LIMIT = 60_000;
const MASTERS = 3;
const SLOTS = 16_384;

/** A cluster of private servers on loopback: three masters, each with a third of the slots and an optional replica. */
export class RedisCluster {
  readonly masters: readonly ClusterNode[];
  readonly replicas: readonly ClusterNode[];
  readonly #added: ClusterNode[] = [];
  readonly #settings: Required<Pick<RedisClusterOptions, 'nodeTimeout' | 'args'>>;

  static async start({
    replicas = false,
    nodeTimeout = 10_000,
    args = [],
  }: RedisClusterOptions = {}): Promise<RedisCluster> {
    const count = replicas ? 2 * MASTERS : MASTERS;
    const starts = await Promise.allSettled(Array.from({ length: count }, () => startNode(nodeTimeout, args)));
    const nodes = starts.flatMap((start) => (start.status === 'fulfilled' ? [start.value] : []));
    const cluster = new RedisCluster(nodes, { nodeTimeout, args });
    try {
      for (const start of starts) if (start.status === 'rejected') throw start.reason;
      await cluster.#form();
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  private constructor(
    nodes: readonly ClusterNode[],
    settings: Required<Pick<RedisClusterOptions, 'nodeTimeout' | 'args'>>,
  ) {
    this.#settings = settings;
    this.masters = nodes.slice(0, MASTERS);
    this.replicas = nodes.slice(MASTERS);
  }

  get nodes(): readonly ClusterNode[] {
    return [...this.masters, ...this.replicas, ...this.#added];
  }

  get connection(): ClusterConnection {
    return { cluster: this.nodes.map(({ server }) => ({ host: server.host, port: server.port })) };
  }

  /** The same connection, but commands to a master go through the master's proxy. */
  connectionThrough(proxies: readonly FaultProxy[]): ClusterConnection {
    const natMap = Object.fromEntries(
      proxies.map(({ url }, index) => {
        const { host, port } = (this.masters[index] as ClusterNode).server;
        return [`${host}:${port}`, { host, port: Number(new URL(url).port) }];
      }),
    );
    return { ...this.connection, options: { natMap } };
  }

  /** The current master of a key, according to a node that is up. */
  async masterOf(key: string): Promise<ClusterNode> {
    const asked = this.nodes.find(({ server }) => server.pid !== undefined) as ClusterNode;
    const owner = await ownerOf(await asked.admin.cluster('KEYSLOT', key), asked);
    const node = this.nodes.find(({ id }) => id === owner);
    if (!node) throw new Error(`no node serves '${key}'`);
    return node;
  }

  /** Waits until all other nodes agree that another node serves the key, and returns that node. */
  async successorOf(key: string, master: ClusterNode): Promise<ClusterNode> {
    const slot = await (this.masters.find((node) => node !== master) as ClusterNode).admin.cluster('KEYSLOT', key);
    const witnesses = this.nodes.filter((node) => node !== master);
    let owners = new Set<string | undefined>([master.id]);
    const isReplaced = async (): Promise<boolean> => {
      owners = new Set(await Promise.all(witnesses.map((node) => ownerOf(slot, node))));
      return owners.size === 1 && !owners.has(master.id);
    };
    await until('a replica has taken over', isReplaced, ELECTION_LIMIT);
    return witnesses.find(({ id }) => owners.has(id)) as ClusterNode;
  }

  /** Waits until all nodes name the same master for a key: they learn of a move, or of a new master, one after the other. */
  async untilAgreed(key: string): Promise<void> {
    const slot = await this.#slotOf(key);
    const isAgreed = async (): Promise<boolean> => {
      const owners = await Promise.all(this.nodes.map((node) => ownerOf(slot, node)));
      return new Set(owners).size === 1;
    };
    await until(`all nodes name the same master for '${key}'`, isAgreed, ELECTION_LIMIT);
  }

  /** Key names whose slots are on the first, second, third, first … master in turn. */
  async keys(name: string, count: number): Promise<string[]> {
    const found: string[] = [];
    for (let number = 0; found.length < count; number += 1) {
      const key = `${name}-${number}`;
      const index = Math.floor(((await this.#slotOf(key)) * MASTERS) / SLOTS);
      if (index === found.length % MASTERS) found.push(key);
    }
    return found;
  }

  /**
   * Moves the slot of a key to another master with the steps of redis-cli; `midway` runs while the slot is importing
   * and migrating.
   */
  async move(key: string, target: ClusterNode, midway: () => unknown = () => undefined): Promise<void> {
    const slot = await this.#slotOf(key);
    const source = await this.masterOf(key);
    await target.admin.cluster('SETSLOT', slot, 'IMPORTING', source.id);
    await source.admin.cluster('SETSLOT', slot, 'MIGRATING', target.id);
    const { host, port } = target.server;
    for (;;) {
      const keys = (await source.admin.cluster('GETKEYSINSLOT', slot, 100)) as string[];
      if (keys.length === 0) break;
      await source.admin.call('MIGRATE', host, port, '', 0, 5_000, 'KEYS', ...keys);
    }
    await midway();
    // The new owner first, so that one node serves the slot even if a later step fails.
    for (const { admin } of [target, source, ...this.nodes.filter((node) => node !== target && node !== source)]) {
      // A master that has given its last slot away becomes a replica as soon as it hears of it, and then refuses this.
      await admin.cluster('SETSLOT', slot, 'NODE', target.id).catch(async (error: unknown) => {
        if (await isMaster(admin)) throw error;
      });
    }
  }

  /** The same with one command where the server has one: Valkey 9.0 and Redis 8.4, each with its own syntax. */
  async moveAtomically(key: string, target: ClusterNode): Promise<void> {
    const slot = await this.#slotOf(key);
    const { admin } = await this.masterOf(key);
    const pushed = admin.call('CLUSTER', 'MIGRATESLOTS', 'SLOTSRANGE', slot, slot, 'NODE', target.id);
    try {
      await pushed.catch(() => target.admin.call('CLUSTER', 'MIGRATION', 'IMPORT', slot, slot));
    } catch {
      return this.move(key, target);
    }
    await this.untilServedBy(key, target);
  }

  /**
   * Waits until all nodes agree that a node serves the key. After {@link move} replicas learn it from messages of the new owner. If the
   * former owner gets another slot before, its newer epoch makes them refuse that: then nodes name one another for the slot, without
   * end.
   */
  async untilServedBy(key: string, target: ClusterNode): Promise<void> {
    const slot = await this.#slotOf(key);
    await until(
      'all nodes know the new owner of the slot',
      () => this.#all(async (node) => (await ownerOf(slot, node)) === target.id),
      30_000,
    );
  }

  /** Starts a master without slots, and its replica. */
  async addPair(): Promise<[master: ClusterNode, replica: ClusterNode]> {
    const { nodeTimeout, args } = this.#settings;
    const master = await startNode(nodeTimeout, args);
    this.#added.push(master);
    const replica = await startNode(nodeTimeout, args);
    this.#added.push(replica);
    await this.#introduce();
    await replica.admin.cluster('REPLICATE', master.id);
    await until('the new replica is in step', async () =>
      /^slave0:.*state=online/m.test(await master.admin.info('replication')),
    );
    return [master, replica];
  }

  /** Stops nodes that have no slots, after all others have forgotten them. */
  async remove(nodes: readonly ClusterNode[]): Promise<void> {
    const others = this.nodes.filter((node) => !nodes.includes(node));
    for (const { admin } of others) for (const { id } of nodes) await admin.cluster('FORGET', id);
    for (const node of nodes) {
      this.#added.splice(this.#added.indexOf(node), 1);
      endClient(node.admin);
      await node.server.stop();
    }
  }

  async stop(): Promise<void> {
    for (const { admin } of this.nodes) endClient(admin);
    await Promise.all(this.nodes.map(({ server }) => server.stop()));
  }

  #slotOf(key: string): Promise<number> {
    return (this.masters[0] as ClusterNode).admin.cluster('KEYSLOT', key);
  }

  async #form(): Promise<void> {
    for (const [index, { admin }] of this.masters.entries()) {
      const from = Math.ceil((index * SLOTS) / MASTERS);
      const to = Math.ceil(((index + 1) * SLOTS) / MASTERS);
      await admin.cluster('ADDSLOTS', ...Array.from({ length: to - from }, (_, offset) => from + offset));
      await admin.call('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
    }
    await this.#introduce();
    for (const [index, { admin }] of this.replicas.entries()) {
      await admin.cluster('REPLICATE', (this.masters[index] as ClusterNode).id);
    }
    await until('the cluster is complete', () => this.#all(({ admin }) => isServing(admin)), FORMING_LIMIT);
    if (this.replicas.length === 0) return;
    const isInStep = async ({ admin }: ClusterNode): Promise<boolean> =>
      !/master_link_status:down/.test(await admin.info('replication'));
    await until('the replicas have caught up', () => this.#all(isInStep), FORMING_LIMIT);
    const haveReplicas = async (): Promise<boolean> => {
      const infos = await Promise.all(this.masters.map(({ admin }) => admin.info('replication')));
      return infos.every((info) => /^slave0:.*state=online/m.test(info));
    };
    await until('the masters have their replicas', haveReplicas, FORMING_LIMIT);
  }

  /**
   * Makes all nodes know each other: first by gossip of one that knows all. Where that takes long, because a node that has not
   * answered in time is forgotten, each pair is introduced.
   */
  async #introduce(): Promise<void> {
    const areKnown = (): Promise<boolean> => this.#all(({ admin }) => knows(admin, this.nodes.length));
    await this.#meet(this.nodes.slice(0, 1));
    await until('all nodes know each other', areKnown, GOSSIP_LIMIT).catch(() => this.#meet(this.nodes));
    await until('all nodes know each other', areKnown, FORMING_LIMIT);
  }

  /** Each of these greets all nodes behind it. */
  async #meet(greeting: readonly ClusterNode[]): Promise<void> {
    for (const [index, { admin }] of greeting.entries()) {
      for (const { server } of this.nodes.slice(index + 1)) await admin.cluster('MEET', server.host, server.port);
    }
  }

  async #all(holds: (node: ClusterNode) => Promise<boolean>): Promise<boolean> {
    return (await Promise.all(this.nodes.map(holds))).every(Boolean);
  }
}

/** The id of the master that serves a slot, as this node sees it. */
async function ownerOf(slot: number, { admin }: ClusterNode): Promise<string | undefined> {
  const ranges = (await admin.call('CLUSTER', 'SLOTS')) as SlotRange[];
  return ranges.find(([first, last]) => first <= slot && slot <= last)?.[2][2];
}

async function startNode(nodeTimeout: number, more: readonly string[]): Promise<ClusterNode> {
  const args = ['--appendonly', 'no', '--cluster-enabled', 'yes', '--cluster-node-timeout', String(nodeTimeout)];
  const replication = ['--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
  for (let attempt = 1; ; attempt += 1) {
    try {
      const port = await freePort(BUS_OFFSET);
      const server = await RedisServer.start({ args: [...args, ...replication, ...more], port });
      const admin = nodeClient(server.url, !more.includes('INFO'));
      return { server, admin, id: String(await admin.cluster('MYID')) };
    } catch (error) {
      // Nodes start at the same time, so two of them may have picked the same free port.
      if (attempt === 5) throw error;
    }
  }
}

async function knows(admin: Redis, count: number): Promise<boolean> {
  const lines = String(await admin.cluster('NODES'))
    .trim()
    .split('\n');
  return lines.length === count && lines.every((line) => / connected(?: |$)/.test(line) && !/handshake/.test(line));
}

export async function isMaster(admin: Redis): Promise<boolean> {
  return (await admin.info('replication')).includes('role:master');
}

export async function isServing(admin: Redis): Promise<boolean> {
  const info = String(await admin.cluster('INFO'));
  return /cluster_state:ok/.test(info) && info.includes(`cluster_slots_ok:${SLOTS}`);
}

/** How a node goes away, and how it comes back. */
export const OUTAGES = [
  ['is killed', ({ server }: ClusterNode) => server.kill(), ({ server }: ClusterNode) => server.restart()],
  [
    'is suspended',
    async ({ server }: ClusterNode) => server.pause(),
    async ({ server }: ClusterNode) => server.resume(),
  ],
] as const;
