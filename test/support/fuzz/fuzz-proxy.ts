import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { Server, Socket } from 'node:net';

import { FuzzLink } from './fuzz-link.ts';
import type { FuzzCounts, FuzzRules } from './fuzz-link.ts';
import type { SeededRandom } from './seeded-random.ts';

const HOST = '127.0.0.1';

/**
 * A TCP proxy between clients and one Redis that gives every connection a manner in which it passes bytes, and a fate with
 * which it ends; see {@link FuzzLink}. Both are drawn from the seed and the number of the connection; when the fate comes
 * also depends on the traffic, so a seed repeats a run only approximately. It starts calm.
 */
export class FuzzProxy {
  readonly counts: FuzzCounts = {
    connections: 0,
    pieces: 0,
    bytes: 0,
    cuts: 0,
    abandoned: 0,
    stalls: 0,
    late: 0,
    corruptedRequests: 0,
    corruptedReplies: 0,
    slowestNotice: 0,
  };
  readonly #target: number;
  readonly #random: SeededRandom;
  readonly #rules: FuzzRules;
  readonly #links = new Set<FuzzLink>();
  readonly #server: Server;
  #isCalm = true;

  static async start(targetPort: number, random: SeededRandom, rules: FuzzRules): Promise<FuzzProxy> {
    const proxy = new FuzzProxy(targetPort, random, rules);
    proxy.#server.listen(0, HOST);
    await once(proxy.#server, 'listening');
    return proxy;
  }

  private constructor(target: number, random: SeededRandom, rules: FuzzRules) {
    this.#target = target;
    this.#random = random;
    this.#rules = rules;
    this.#server = createServer({ allowHalfOpen: true }, (client) => this.#join(client));
  }

  get url(): string {
    return `redis://${HOST}:${(this.#server.address() as { port: number }).port}`;
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#links.size;
  }

  /** Connections on which a byte was corrupted and which neither peer has ended yet. */
  get unnoticed(): number {
    return [...this.#links].filter(({ isCorrupted }) => isCorrupted).length;
  }

  /** From now on each connection, open ones too, has a manner and a fate. */
  unleash(): void {
    this.#isCalm = false;
    for (const link of this.#links) link.start();
  }

  /** No more faults: connections that stand still are cut, and bytes pass unchanged. */
  calm(): void {
    this.#isCalm = true;
    for (const link of this.#links) link.calm();
  }

  stop(): void {
    this.#server.close();
    for (const link of this.#links) link.destroy();
  }

  #join(client: Socket): void {
    this.counts.connections += 1;
    const upstream = connect({ host: HOST, port: this.#target, noDelay: true, allowHalfOpen: true });
    client.setNoDelay();
    const random = this.#random.fork(`connection ${this.counts.connections}`);
    const link = new FuzzLink({ client, upstream, random, rules: this.#rules, counts: this.counts });
    this.#links.add(link);
    void link.closed.then(() => this.#links.delete(link));
    if (!this.#isCalm) link.start();
  }
}
