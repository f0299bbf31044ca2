import { EventEmitter } from 'node:events';

import type { Cluster, Redis, RedisOptions } from 'ioredis';

import { outsideContext } from '../../shared/async-context.js';
import { monotonicNow } from '../../shared/clock.js';
import type { ClientFactory, ConnectionRole, ConnectionTimes } from './client-factory.js';
import { ownOptions } from './client-factory.js';
import { decisiveReason } from './connect-failure.js';
import { hashSlot } from './hash-slot.js';
import { CLOSED, publicCause } from './ioredis-errors.js';
import { keepErrorsCaught } from './take-over.js';

/** The node that serves a key. */
export interface NodeTarget {
  /** `host:port`, after the user's natMap. */
  readonly node: string;
  /** The slot is being migrated to it: each command needs ASKING before it. */
  readonly isAsking: boolean;
}

interface TopologyEvents {
  /** Slots have been discovered, or have moved. */
  change: [];
  /** Discovery failed; it is repeated. `attempt` counts since it last succeeded. */
  failure: [error: Error, attempt: number];
}

/** The parts of an ioredis Cluster that its types hide. */
interface ClusterInternals {
  /** The nodes of each slot, its master first. */
  readonly slots: ReadonlyArray<readonly string[] | undefined>;
  readonly slotsTimer?: NodeJS.Timeout;
  /** The nodes that are asked first, as the user has named them. */
  startupNodes?: readonly unknown[];
}

const ENDING: readonly string[] = ['disconnecting', 'close', 'end'];
const REDIRECTION = /^(MOVED|ASK) (\d+) (\S*):(\d+)/;
/** A failing node is no reason to ask for the slots more often than this. */
const MIN_REFRESH_INTERVAL = 100;

/**
 * Knows which node of a cluster serves a key. ioredis discovers nodes and slots and refreshes them; no message passes
 * through its client. Redirections of servers, which are newer than the last discovery, are kept until the next one.
 *
 * It makes clients for single nodes with the options of the user's cluster client; it owns only the discovering client.
 */
export class ClusterTopology extends EventEmitter<TopologyEvents> {
  readonly #factory: ClientFactory;
  readonly #times: ConnectionTimes;
  #cluster: Cluster | undefined;
  #isKnown = false;
  #isClosed = false;
  #lastFailure: Error | undefined;
  /** Of nodes that did not answer, until one answers or all have failed. */
  #nodeErrors: Error[] = [];
  /** Failures in a row. */
  #failures = 0;
  #refreshedAt = -Infinity;
  /** Nodes that servers have named by MOVED, by slot. */
  readonly #moved = new Map<number, string>();
  /** Nodes that servers have named by ASK, by key. */
  readonly #asked = new Map<string, string>();
  /** The nodes of the last discovery. */
  #nodes: readonly Redis[] = [];
  /** Found once for each change: a cluster has 16,384 slots. */
  #masters: readonly string[] | undefined;

  constructor(factory: ClientFactory, times: ConnectionTimes) {
    super();
    // One listener for each command that waits for a connection.
    this.setMaxListeners(0);
    this.#factory = factory;
    this.#times = times;
  }

  /** Whether slots have ever been discovered. */
  get isKnown(): boolean {
    return this.#isKnown;
  }

  get lastFailure(): Error | undefined {
    return this.#lastFailure;
  }

  /** Starts discovery. Idempotent. */
  open(): void {
    if (this.#cluster || this.#isClosed) return;
    outsideContext(() => this.#discover());
  }

  #discover(): void {
    const cluster = this.#factory.createCluster();
    this.#cluster = cluster;
    keepLookupsApart(cluster);
    followRefreshes(cluster);
    cluster.on('refresh', this.#onRefresh);
    cluster.on('error', this.#onFailure);
    cluster.on('node error', this.#onNodeError);
    cluster.on('+node', this.#listenTo);
    for (const node of cluster.nodes('all')) this.#listenTo(node);
    if (cluster.status === 'wait') cluster.connect().catch(this.#onFailure);
    else if (cluster.status === 'ready') this.#onRefresh();
  }

  /** Ends discovery. Idempotent. */
  close(): void {
    this.#isClosed = true;
    this.#cluster?.off('refresh', this.#onRefresh);
    this.#cluster?.disconnect();
    this.emit('change');
  }

  /** Undefined until slots have been discovered, and for a slot that no node serves. */
  targetOf(key: string): NodeTarget | undefined {
    const asked = this.#asked.size > 0 ? this.#asked.get(key) : undefined;
    if (asked !== undefined) return { node: asked, isAsking: true };
    const node = this.#ownerOf(hashSlot(key));
    return node === undefined ? undefined : { node, isAsking: false };
  }

  /** The nodes that serve slots, in a fixed order. */
  masters(): readonly string[] {
    return (this.#masters ??= this.#findMasters());
  }

  /** The nodes to which commands may be sent: masters, and those that slots are being migrated to. */
  servingNodes(): ReadonlySet<string> {
    return new Set([...this.masters(), ...this.#asked.values()]);
  }

  /**
   * Notes that a server named another node for a key.
   * @param from the node that answered, whose host stands for an empty one. Returns false when the error is no redirection.
   */
  redirected(key: string, error: Error, from: string): boolean {
    const match = REDIRECTION.exec(error.message);
    if (!match) return false;
    const [, kind, slotText, host, port] = match as unknown as [string, 'MOVED' | 'ASK', string, string, string];
    const slot = Number(slotText);
    if (slot !== hashSlot(key)) return false;
    const node = this.#mapped(`${host || hostOf(from)}:${port}`);
    if (kind === 'ASK') {
      this.#asked.set(key, node);
    } else {
      this.#asked.delete(key);
      this.#moved.set(slot, node);
      this.refresh();
    }
    this.#announceChange();
    return true;
  }

  /** Discovers the slots again, soon. */
  refresh(): void {
    const now = monotonicNow();
    if (!this.#cluster || this.#isClosed || now - this.#refreshedAt < MIN_REFRESH_INTERVAL) return;
    this.#refreshedAt = now;
    this.#cluster.refreshSlotsCache();
  }

  /** A client for one attempt to connect to a node. */
  createClient(node: string, role: ConnectionRole): Redis {
    const host = hostOf(node);
    const port = Number(node.slice(host.length + 1));
    const model = this.#nodes.find((known) => addressOf(known) === node) ?? this.#nodes[0];
    if (!model) throw new Error('no node of the cluster is known');
    const options: RedisOptions = { ...ownOptions(role, this.#times), readOnly: false, host, port };
    return model.duplicate(options);
  }

  #findMasters(): string[] {
    const masters = new Set(this.#moved.values());
    this.#slots.forEach((nodes, slot) => {
      if (nodes?.[0] !== undefined && !this.#moved.has(slot)) masters.add(nodes[0]);
    });
    return [...masters].sort();
  }

  /** Everything that was derived from the slots is derived again. */
  #announceChange(): void {
    this.#masters = undefined;
    this.emit('change');
  }

  #ownerOf(slot: number): string | undefined {
    return this.#moved.get(slot) ?? this.#slots[slot]?.[0];
  }

  get #slots(): ClusterInternals['slots'] {
    return this.#isKnown ? (this.#cluster as unknown as ClusterInternals).slots : [];
  }

  #mapped(node: string): string {
    const { natMap } = this.#cluster?.options ?? {};
    const mapped = typeof natMap === 'function' ? natMap(node) : natMap?.[node];
    return mapped ? `${mapped.host}:${mapped.port}` : node;
  }

  readonly #onRefresh = (): void => {
    if (!Array.isArray((this.#cluster as unknown as Partial<ClusterInternals>).slots)) {
      return this.#onFailure(new Error('this version of ioredis does not tell the slots of a cluster'));
    }
    this.#isKnown = true;
    this.#nodes = (this.#cluster as Cluster).nodes('all');
    this.#lastFailure = undefined;
    this.#nodeErrors = [];
    this.#failures = 0;
    this.#moved.clear();
    for (const [key, node] of this.#asked) {
      const isOver = this.#ownerOf(hashSlot(key)) === node || !this.#isNode(node);
      if (isOver) this.#asked.delete(key);
    }
    this.#announceChange();
  };

  /** ioredis asks a node for the slots over a copy of its client, and keeps the reason to itself when that cannot connect. */
  readonly #listenTo = (node: Redis): void => {
    keepErrorsCaught(node);
    const duplicate = node.duplicate.bind(node);
    node.duplicate = (options) => {
      const copy = duplicate(options);
      copy.on('error', (error) => {
        if (!this.#isKnown) this.#nodeErrors.push(error);
      });
      keepErrorsCaught(copy);
      return copy;
    };
  };

  /** Before slots are known, one node that refuses the login is no failure: the next node that is asked may accept it. */
  readonly #onNodeError = (error: Error): void => {
    if (this.#isKnown) this.#onFailure(error);
    else this.#nodeErrors.push(error);
  };

  /**
   * ioredis says only that all nodes have failed, and keeps the last error beside it, which may be a mere "Connection is
   * closed." that follows from the reason. Of several reasons it is one that waiting may cure.
   */
  readonly #onFailure = (error: Error & { lastNodeError?: Error }): void => {
    if (this.#isClosed) return;
    const reasons = this.#nodeErrors
      .map((reason) => publicCause(reason) as Error)
      .filter(({ message }) => message !== CLOSED);
    this.#nodeErrors = [];
    this.#lastFailure = decisiveReason(reasons) ?? (publicCause(error.lastNodeError ?? error) as Error);
    this.#failures += 1;
    this.emit('failure', this.#lastFailure, this.#failures);
  };

  #isNode(node: string): boolean {
    return this.#nodes.some((known) => addressOf(known) === node);
  }
}

function hostOf(node: string): string {
  return node.slice(0, node.lastIndexOf(':'));
}

function addressOf({ options }: Redis): string {
  return `${options.host}:${options.port}`;
}

/**
 * A name that DNS does not know, as that of a pod that is down, would keep ioredis from asking the other nodes. Left as it is, it
 * fails for its own node only. Of the names of an SRV record ioredis tries the next one itself.
 */
function keepLookupsApart({ options }: Cluster): void {
  const { dnsLookup, useSRVRecords } = options;
  if (!dnsLookup || useSRVRecords) return;
  options.dnsLookup = (host, callback) =>
    dnsLookup(host, (error, address, ipFamily) => callback(null, error ? host : address, ipFamily));
}

/**
 * - A refresh that is in progress when the client ends would start the timer of the next one, without an end.
 * - When no node answers, all of them may have other addresses by now: ioredis would ask the old ones for ever, because no
 *   connection of its own that is lost leads it back to the nodes that the user has named.
 */
function followRefreshes(cluster: Cluster): void {
  const internals = cluster as unknown as ClusterInternals;
  const named = internals.startupNodes ?? [];
  const refresh = cluster.refreshSlotsCache.bind(cluster);
  cluster.refreshSlotsCache = (callback) =>
    refresh((error) => {
      if (ENDING.includes(cluster.status)) return;
      if (error && cluster.status === 'ready') {
        // The last known nodes too, because those that were named may be gone. The names of SRV records are no nodes.
        const known = cluster.options.useSRVRecords
          ? []
          : cluster.nodes('all').map(({ options: { host, port } }) => ({ host, port }));
        internals.startupNodes = [...named, ...known];
        cluster.disconnect(true);
      } else callback?.(error);
    });
  cluster.once('end', () => clearTimeout(internals.slotsTimer));
}
