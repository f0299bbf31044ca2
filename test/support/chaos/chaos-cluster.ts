import type { ClusterConnection } from '../../../lib/index.js';
import type { SeededRandom } from '../fuzz/seeded-random.js';
import { RedisCluster, isMaster, isServing } from '../redis-cluster.js';
import type { ClusterNode } from '../redis-cluster.js';
import { until } from '../until.js';

/**
 * Milliseconds without an answer after which the others elect a replica. Long enough for nodes on a busy machine: a failover in the midst
 * of a move that goes key by key loses what has been moved.
 */
const NODE_TIMEOUT = 5_000;
/** For elections, restarts and synchronizations on a busy machine. */
const LIMIT = 60_000;
/** A server gives up a failover that took five seconds, as it does where the replica was elected a moment ago, and says nothing. */
const FAILOVER_PATIENCE = 6_000;
/** Everything that was replied to survives a kill of the process: `everysec` may hold a write back for a moment. */
const DURABLE = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'no'];

/** A cluster of three masters with a replica each, and what happens to it. Each fault ends with a cluster that is whole again. */
export class ChaosCluster {
  readonly #cluster: RedisCluster;
  readonly #random: SeededRandom;
  readonly #streams: readonly string[];
  /** Waits until messages of all streams are sent and handled. */
  readonly #flow: () => Promise<void>;

  static async start(random: SeededRandom, streamCount: number, flow: () => Promise<void>): Promise<ChaosCluster> {
    const cluster = await RedisCluster.start({ replicas: true, nodeTimeout: NODE_TIMEOUT, args: DURABLE });
    return new ChaosCluster(cluster, random, await cluster.keys('chaos', streamCount), flow);
  }

  private constructor(
    cluster: RedisCluster,
    random: SeededRandom,
    streams: readonly string[],
    flow: () => Promise<void>,
  ) {
    this.#cluster = cluster;
    this.#random = random;
    this.#streams = streams;
    this.#flow = flow;
  }

  get connection(): ClusterConnection {
    return this.#cluster.connection;
  }

  /** Key names of streams, as many on each master. */
  get streams(): readonly string[] {
    return this.#streams;
  }

  /** A client for the master of a key. */
  async adminOf(key: string): Promise<ClusterNode['admin']> {
    return (await this.#cluster.masterOf(key)).admin;
  }

  stop(): Promise<void> {
    return this.#cluster.stop();
  }

  /** Every slot that has a stream moves to another master and back, twice: step by step, and with one command where there is one. */
  async reshard(): Promise<void> {
    for (const isAtomic of [false, true]) {
      const homes = new Map<string, ClusterNode>();
      for (const stream of this.#streams) homes.set(stream, await this.#cluster.masterOf(stream));
      const masters = [...new Set(homes.values())];
      for (const [stream, home] of homes) {
        await this.#move(stream, this.#random.pick(masters.filter((node) => node !== home)), isAtomic);
      }
      await this.#flow();
      for (const [stream, home] of homes) await this.#move(stream, home, isAtomic);
      await this.untilWhole();
      await this.#flow();
    }
  }

  /** A master with a replica joins, gets a stream of each other master, gives them back, and leaves. */
  async addAndRemoveNode(): Promise<void> {
    const pair = await this.#cluster.addPair();
    await this.untilWhole();
    const homes = new Map<ClusterNode, string>();
    for (const stream of this.#streams) homes.set(await this.#cluster.masterOf(stream), stream);
    for (const stream of homes.values()) await this.#move(stream, pair[0]);
    await this.untilWhole();
    await this.#flow();
    for (const [home, stream] of homes) await this.#move(stream, home);
    await this.#cluster.remove(pair);
    await this.untilWhole();
    await this.#flow();
  }

  /** A replica takes over, in agreement with its master. */
  failover(): Promise<void> {
    return this.#promote([]);
  }

  /** A replica takes over without being asked or elected: what its master has confirmed since is lost, unless a replica had it. */
  takeover(): Promise<void> {
    return this.#promote(['TAKEOVER']);
  }

  async killMaster(): Promise<void> {
    const victim = await this.#victim();
    await victim.server.kill();
    await this.#untilReplaced(victim);
    await this.#flow(); // what is served by the new master is stored, and not confirmed: it has no replica
    await victim.server.restart();
    await this.untilWhole();
    await this.#flow();
  }

  /** Longer than the node timeout: it is replaced, and believes for a moment that it is still the master. */
  async suspendMaster(): Promise<void> {
    const victim = await this.#victim();
    victim.server.pause();
    await this.#untilReplaced(victim);
    victim.server.resume();
    await this.untilWhole();
    await this.#flow();
  }

  async allDownAndUp(): Promise<void> {
    const { nodes } = this.#cluster;
    await Promise.all(nodes.map(({ server }) => server.kill()));
    await Promise.all(nodes.map(({ server }) => server.restart()));
    await this.untilWhole();
    await this.#flow();
  }

  /** Every slot is served, each master has its replica in step, and all nodes see that. */
  async untilWhole(): Promise<void> {
    const isWhole = async ({ admin }: ClusterNode): Promise<boolean> => {
      if (!(await isServing(admin))) return false;
      const view = String(await admin.cluster('NODES'));
      if (/fail|handshake|noaddr/.test(view) || view.trim().split('\n').length !== this.#cluster.nodes.length)
        return false;
      const info = await admin.info('replication');
      return (await isMaster(admin)) ? /^slave0:.*state=online/m.test(info) : info.includes('master_link_status:up');
    };
    await until(
      'the cluster is whole',
      async () =>
        (await Promise.all(this.#cluster.nodes.map((node) => isWhole(node).catch(() => false)))).every(Boolean),
      LIMIT,
    );
  }

  async #move(stream: string, target: ClusterNode, isAtomic = false): Promise<void> {
    await this.#cluster.untilAgreed(stream);
    await (isAtomic ? this.#cluster.moveAtomically(stream, target) : this.#cluster.move(stream, target));
    await this.#cluster.untilAgreed(stream);
  }

  async #promote(how: readonly string[]): Promise<void> {
    const master = await this.#victim();
    const replica = await this.#replicaOf(master);
    let asked = -Infinity;
    const isPromoted = async (): Promise<boolean> => {
      if (await isMaster(replica.admin)) return true;
      if (performance.now() - asked < FAILOVER_PATIENCE) return false;
      asked = performance.now();
      // It may have become the master just now.
      await replica.admin.call('CLUSTER', 'FAILOVER', ...how).catch(() => undefined);
      return false;
    };
    await until('the replica is the master', isPromoted, LIMIT);
    await this.untilWhole();
    await this.#flow();
  }

  /** A master of one of the streams. What was moved to it is on its replica: only the producer waits for the replica by itself. */
  async #victim(): Promise<ClusterNode> {
    const stream = this.#random.pick(this.#streams);
    const { admin } = await this.#cluster.masterOf(stream);
    await admin.set(`{${stream}}:marker`, 'x');
    await until('its replica has caught up', async () => (await admin.wait(1, 1_000)) === 1, LIMIT);
    return this.#cluster.masterOf(stream);
  }

  async #replicaOf(master: ClusterNode): Promise<ClusterNode> {
    const port = /^slave0:ip=127\.0\.0\.1,port=(\d+)/m.exec(await master.admin.info('replication'))?.[1];
    return this.#cluster.nodes.find(({ server }) => server.port === Number(port)) as ClusterNode;
  }

  /** Waits until the others have a master in place of this one. */
  async #untilReplaced(victim: ClusterNode): Promise<void> {
    const others = this.#cluster.nodes.filter((node) => node !== victim);
    const isReplaced = async ({ admin }: ClusterNode): Promise<boolean> => {
      const [row = ''] = String(await admin.cluster('NODES'))
        .split('\n')
        .filter((line) => line.startsWith(victim.id));
      return (await isServing(admin)) && !/ \d+(-\d+)?( |$)/.test(row.split(' connected')[1] ?? '');
    };
    const views = (): Promise<boolean[]> => Promise.all(others.map((node) => isReplaced(node).catch(() => false)));
    await until('a replica has taken over', async () => (await views()).every(Boolean), LIMIT);
  }
}
