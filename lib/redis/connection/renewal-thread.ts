import { Worker } from 'node:worker_threads';

import { InternalError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { outsideContext } from '../../shared/async-context.js';
import { monotonicTime } from '../../shared/clock.js';
import { errorText } from '../../shared/error-text.js';
import { classifyRedisError, isOfKey, isTransient, toPublicError } from '../commands/redis-error.js';
import type { Script } from '../scripts/script.js';
import { RENEWAL_PROGRAM } from '../wire/renewal-program.js';
import { ReplyError } from '../wire/resp-reader.js';
import { connectFailure } from './connect-failure.js';
import type { ConnectionRouter } from './connection-router.js';
import type { NodeAccess } from './node-access.js';
import type { RedisConnection } from './redis-connection.js';

/** Something that the thread renews on the server by a script with one key. */
export interface ThreadLease {
  /** With its prefix. A client has one lease for each key. */
  readonly key: string;
  readonly script: Script;
  /** Arguments of the script; the ids of entries follow. */
  readonly args: readonly string[];
  /** Only for the lease of pending entries. */
  readonly entries?: ThreadEntries;
  /** Scripts are not permitted: entries are renewed by XPENDING and XCLAIM. */
  readonly isWithoutScripts?: boolean;
}

export interface ThreadEntries {
  readonly group: string;
  readonly consumer: string;
  readonly ids: readonly string[];
  /** For each id, the time in milliseconds after which it is not renewed; undefined: as long as the event loop runs. */
  readonly left: ReadonlyArray<number | undefined>;
  /** Entries that are pending for the consumer from this id on are renewed too: they were read since, or are being read. */
  readonly after: string | undefined;
}

export interface RenewalClientOptions {
  /** Interval of renewals, in milliseconds: {@link RenewalClient.setLeases} must be called as often, or the thread renews. */
  readonly every: number;
  /** How long the event loop may be blocked, in milliseconds. Then the thread renews nothing more. */
  readonly limit: number;
  /** The thread cannot renew. */
  readonly onFailure: (error: RedisStreamsError) => void;
}

/** A failure in the thread: a reply of the server, or an error of Node.js. */
interface Failure {
  readonly message: string;
  readonly code?: string;
  readonly isReply?: boolean;
}

type Report =
  | { readonly node: number; readonly failure: Failure }
  | { readonly client: number; readonly key: string; readonly failure: Failure };

/** Most leases without entries: as many as a cluster has slots. */
const MAX_SLOTS = 16_384;
/** Much more than 100,000 entries need. */
const RESOURCE_LIMITS = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 16 };

/**
 * The thread that renews leases while the event loop of this process is blocked; see {@link RENEWAL_PROGRAM}. All consumers of the
 * process share it: it starts with the first client, and ends with the last one. A thread that has failed is started again when a
 * client sends something next.
 */
class RenewalThread {
  static #current: RenewalThread | undefined;

  static ofProcess(): RenewalThread {
    return (RenewalThread.#current ??= new RenewalThread());
  }

  readonly counter = new Int32Array(new SharedArrayBuffer(4));
  /** When leases without entries were renewed, in nanoseconds, by their slots. */
  readonly renewals = new BigInt64Array(new SharedArrayBuffer(8 * MAX_SLOTS));
  readonly #freeSlots: number[] = [];
  #slots = 0;
  readonly #clients = new Map<number, RenewalClient>();
  #worker: Worker | undefined;
  #lastId = 0;
  /** By connection, the node that the thread knows of it. */
  #nodes = new Map<RedisConnection, { readonly id: number; epoch: number }>();

  add(client: RenewalClient): number {
    this.#lastId += 1;
    this.#clients.set(this.#lastId, client);
    return this.#lastId;
  }

  async remove(id: number): Promise<void> {
    this.#clients.delete(id);
    this.#worker?.postMessage({ type: 'close', id });
    if (this.#clients.size > 0) return;
    const worker = this.#worker;
    this.#ended();
    await worker?.terminate();
  }

  /** The id of the node of a connection. Its access is added to `named` when the thread does not have it. */
  nodeOf(connection: RedisConnection, named: Array<[number, NodeAccess]>): number | undefined {
    const { epoch } = connection;
    const known = this.#nodes.get(connection);
    if (known?.epoch === epoch) return known.id;
    const access = connection.access();
    if (!access) return known?.id;
    this.#lastId += 1;
    const node = { id: known?.id ?? this.#lastId, epoch };
    this.#nodes.set(connection, node);
    named.push([node.id, access]);
    return node.id;
  }

  /** A place for the times of the renewals of a lease; undefined when there are too many. */
  takeSlot(): number | undefined {
    const slot = this.#freeSlots.pop() ?? this.#slots;
    if (slot >= MAX_SLOTS) return undefined;
    this.#slots = Math.max(this.#slots, slot + 1);
    Atomics.store(this.renewals, slot, 0n);
    return slot;
  }

  freeSlot(slot: number): void {
    this.#freeSlots.push(slot);
  }

  /** Forgets connections that no client uses, as the thread does. */
  forgetUnused(): void {
    const used = new Set([...this.#clients.values()].flatMap((client) => [...client.nodes.values()]));
    for (const [connection, { id }] of this.#nodes) if (!used.has(id)) this.#nodes.delete(connection);
  }

  post(message: object): void {
    this.#worker ??= outsideContext(() => this.#start());
    this.#worker?.postMessage(message);
  }

  #start(): Worker | undefined {
    try {
      const worker = new Worker(RENEWAL_PROGRAM, {
        eval: true,
        // It needs nothing of the process, and modules that are preloaded there are not meant for it.
        argv: [],
        execArgv: [],
        env: {},
        name: 'nestjs-redis-streams',
        resourceLimits: RESOURCE_LIMITS,
        workerData: { counter: this.counter.buffer, renewals: this.renewals.buffer },
      });
      worker.unref();
      worker.on('message', (report: Report) => this.#report(report));
      worker.on('error', (error) => this.#failed(worker, error));
      worker.on('exit', () => this.#failed(worker, new Error('it has ended')));
      return worker;
    } catch (error) {
      this.#failAll(error);
      return undefined;
    }
  }

  #failed(worker: Worker, error: unknown): void {
    if (this.#worker !== worker) return;
    this.#ended();
    this.#failAll(error);
  }

  #failAll(error: unknown): void {
    const text = `The thread that renews leases has failed, and the event loop renews them: ${errorText(error)}`;
    for (const client of this.#clients.values()) client.failed(new InternalError(text, error), 'thread');
  }

  #ended(): void {
    this.#worker = undefined;
    this.#nodes = new Map();
  }

  #report(report: Report): void {
    const { message, code, isReply } = report.failure;
    const cause = isReply ? new ReplyError(message) : Object.assign(new Error(message), code && { code });
    if ('client' in report) {
      const kind = classifyRedisError(cause);
      if (isTransient(kind) || isOfKey(kind)) return;
      const client = this.#clients.get(report.client);
      client?.failed(toPublicError(cause, report.key, 'renewing the leases, in a thread, of'), report.key);
      return;
    }
    const [connection] = [...this.#nodes].find(([, { id }]) => id === report.node) ?? [];
    if (!connection) return;
    const error = connectFailure(`Redis at ${connection.address}, for the thread that renews leases,`, cause);
    for (const client of this.#clients.values()) {
      if ([...client.nodes.values()].includes(report.node)) client.failed(error);
    }
  }
}

/** The leases that one part of this process has, as the thread knows them. */
export class RenewalClient {
  readonly #options: RenewalClientOptions;
  readonly #router: Pick<ConnectionRouter, 'find'>;
  readonly #thread = RenewalThread.ofProcess();
  readonly #id: number;
  /** The last message of what was reported, by what it concerns. */
  readonly #reported = new Map<string, string>();
  /** The node of each key, as the thread knows it. */
  nodes: ReadonlyMap<string, number> = new Map();
  /** By the key of a lease without entries. */
  readonly #slots = new Map<string, number | undefined>();
  #isClosed = false;

  /** @param router finds the node of each key */
  constructor(router: Pick<ConnectionRouter, 'find'>, options: RenewalClientOptions) {
    this.#router = router;
    this.#options = options;
    this.#id = this.#thread.add(this);
  }

  /** All leases, in place of the former ones. Ignored after {@link close}. */
  setLeases(leases: readonly ThreadLease[]): void {
    if (this.#isClosed) return;
    const named: Array<[number, NodeAccess]> = [];
    const nodes = new Map<string, number>();
    for (const { key } of leases) {
      const connection = this.#router.find(key)?.connection;
      // Without a live connection the former node remains.
      const node = (connection && this.#thread.nodeOf(connection, named)) ?? this.nodes.get(key);
      if (node !== undefined) nodes.set(key, node);
    }
    this.nodes = nodes;
    this.#thread.forgetUnused();
    const { every, limit } = this.#options;
    const sent = leases.map(({ script: { sha, source }, ...lease }) => ({
      ...lease,
      script: { sha, source },
      node: nodes.get(lease.key),
      slot: lease.entries ? undefined : this.#slotOf(lease.key),
    }));
    this.#thread.post({ type: 'leases', id: this.#id, every, limit, nodes: named, leases: sent });
  }

  /** When the thread sent the last renewal of a lease without entries that has succeeded, on the monotonic clock. */
  renewedAt(key: string): number {
    const slot = this.#slots.get(key);
    const nanoseconds = slot === undefined ? 0n : Atomics.load(this.#thread.renewals, slot);
    return nanoseconds === 0n ? -Infinity : monotonicTime(nanoseconds);
  }

  #slotOf(key: string): number | undefined {
    if (!this.#slots.has(key)) this.#slots.set(key, this.#thread.takeSlot());
    return this.#slots.get(key);
  }

  /** Further entries of a lease. Ignored after {@link close}. */
  addEntries(key: string, ids: readonly string[]): void {
    if (!this.#isClosed) this.#thread.post({ type: 'entries', id: this.#id, key, ids });
  }

  /** The event loop runs. */
  heartbeat(): void {
    (this.#thread.counter[0] as number) += 1;
  }

  /** Called by the thread. @param place what is reported of it once only, until it is something else */
  failed(error: RedisStreamsError, place?: string): void {
    if (place !== undefined && this.#reported.get(place) === error.message) return;
    if (place !== undefined) this.#reported.set(place, error.message);
    this.#options.onFailure(error);
  }

  /** Ends the thread after the last client. */
  async close(): Promise<void> {
    this.#isClosed = true;
    // A renewal that is under way may still write there. It was sent before any lease that gets the place next, so it does no harm.
    for (const slot of this.#slots.values()) if (slot !== undefined) this.#thread.freeSlot(slot);
    this.#slots.clear();
    await this.#thread.remove(this.#id);
  }
}
