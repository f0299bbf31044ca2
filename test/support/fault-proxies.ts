import type { ClusterConnection } from '../../lib/index.js';
import type { FaultProxy, LinkRole } from './fault-proxy.js';

/** The proxies before all nodes of a {@link TestRedis}; a fault happens on each of them, unless it needs a reply: then on one in turn. */
export class FaultProxies {
  /** The connection to the Redis behind the proxies, through them. */
  readonly connection: string | ClusterConnection;
  readonly #all: readonly FaultProxy[];
  /** Those before nodes whose streams have messages. */
  readonly #busy: readonly FaultProxy[];
  #turn = 0;

  constructor(connection: string | ClusterConnection, all: readonly FaultProxy[], busy: readonly FaultProxy[]) {
    this.connection = connection;
    this.#all = all;
    this.#busy = busy;
  }

  /** Connections accepted since the start. */
  get accepted(): number {
    return this.#all.reduce((sum, { accepted }) => sum + accepted, 0);
  }

  async accept(): Promise<void> {
    await Promise.all(this.#all.map((proxy) => proxy.accept()));
  }

  refuse(): void {
    for (const proxy of this.#all) proxy.refuse();
  }

  cut(how: 'rst' | 'fin' = 'rst', role?: LinkRole): number {
    return this.#all.reduce((sum, proxy) => sum + proxy.cut(how, role), 0);
  }

  stall(role?: LinkRole): void {
    for (const proxy of this.#all) proxy.stall(role);
  }

  unstall(): void {
    for (const proxy of this.#all) proxy.unstall();
  }

  abandon(role?: LinkRole): void {
    for (const proxy of this.#all) proxy.abandon(role);
  }

  delay(ms: number): void {
    for (const proxy of this.#all) proxy.delay(ms);
  }

  tearReply(bytes: number, role?: LinkRole, skip = 0): Promise<void> {
    const proxy = this.#busy[this.#turn % this.#busy.length] as FaultProxy;
    this.#turn += 1;
    return proxy.tearReply(bytes, role, skip);
  }
}
