import type { Redis } from 'ioredis';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import type { FaultBench } from './fault-bench.js';
import { Ledger } from './ledger.js';
import type { Account } from './ledger.js';
import type { ChildTask } from './nest-child.js';
import type { NestProcess, useNestProcesses } from './nest-process.js';
import { pendingOf } from './streams.js';
import { until } from './until.js';

/** One time that a handler was given a message. */
export interface Start {
  readonly service: string;
  readonly n: number;
  readonly id: string;
  readonly deliveryCount: number;
}

/** A service of the fleet; its name is that of its consumer. */
export interface Service extends NestProcess {
  readonly name: string;
  /** Messages that it was given and has not done. */
  inHand(): number[];
  done(): number[];
}

export interface FleetPlan {
  readonly url: string;
  readonly pattern: string;
  readonly options: Partial<ServerRedisStreamsOptions>;
}

const GROUP = 'fleet';

/** The services of one group, each a process, whose work is taken down in one ledger. */
export class Fleet {
  readonly ledger = new Ledger();
  readonly starts: Start[] = [];
  /** Starts whose delivery count is not one more than the entry had when its last holder died, or more than it died. */
  readonly miscounted: Start[] = [];
  /** How often an entry was in the hands of a process that died. */
  readonly crashes = new Map<string, number>();
  /** The delivery count that it had then. */
  readonly #deliveries = new Map<string, number>();
  readonly #bench: FaultBench;
  readonly #start: ReturnType<typeof useNestProcesses>;
  readonly #admin: Redis;
  readonly #plan: FleetPlan;

  /** The bench must end before the processes do, so that nothing is started anew at the end of a test. */
  constructor(bench: FaultBench, start: ReturnType<typeof useNestProcesses>, plan: FleetPlan) {
    this.#bench = bench;
    this.#start = start;
    this.#admin = bench.admin(plan.url);
    this.#plan = plan;
  }

  /** Sends one task; takes down whether it was confirmed. */
  async send(producer: StreamProducer, task: ChildTask): Promise<void> {
    await this.ledger.sent(String(task.n), producer.send(JSON.stringify(task)));
  }

  async start(name: string, options: Partial<ServerRedisStreamsOptions> = {}): Promise<Service> {
    const { url, pattern } = this.#plan;
    const orders = { connection: url, group: GROUP, consumer: name, ...this.#plan.options, ...options };
    const service = await this.#start({ pattern, options: orders, isSilent: true }, (event) => {
      const { started: n, id = '', deliveryCount = 0, done } = event;
      if (n !== undefined) this.#started({ service: name, n, id, deliveryCount });
      if (done !== undefined) this.ledger.handledMessage({ id, text: () => String(done) });
    });
    const done = (): number[] => service.events.flatMap((event) => event.done ?? []);
    const inHand = (): number[] => {
      const ended = new Set(done());
      return service.events.flatMap(({ started }) => (started === undefined || ended.has(started) ? [] : started));
    };
    return Object.assign(service, { name, done, inHand });
  }

  /** SIGKILL in the middle of handlers; returns the entries that it had in its hands. */
  async kill(service: Service): Promise<string[]> {
    await until(`${service.name} is in the middle of something`, () => service.inHand().length > 0);
    service.kill('SIGKILL');
    return this.buried(service);
  }

  /** Waits until the process is gone, and takes down what it had in its hands. */
  async buried(service: Service): Promise<string[]> {
    await service.ended;
    const rows = await this.#pendingOf(service.name);
    for (const [id, , , deliveryCount] of rows) {
      this.crashes.set(id, this.#crashesOf(id) + 1);
      this.#deliveries.set(id, deliveryCount);
    }
    return rows.map(([id]) => id);
  }

  /** Starts a service anew whenever it has ended, as an orchestrator does; `stop()` says how often that was. */
  supervise(name: string): { stop(): Promise<number> } {
    const stopping = withResolvers<undefined>();
    const run = async (): Promise<number> => {
      for (let life = 0; ; life += 1) {
        const service = await this.start(`${name}-${life}`);
        if ((await Promise.race([service.ended, stopping.promise])) === undefined) return life;
        await this.buried(service);
      }
    };
    const running = run();
    this.#bench.endLater(() => stopping.resolve(undefined));
    return {
      stop() {
        stopping.resolve(undefined);
        return running;
      },
    };
  }

  /** The entries that are pending for a service, by the server's word. */
  async held(name: string): Promise<string[]> {
    return (await this.#pendingOf(name)).map(([id]) => id);
  }

  /** Waits until nothing is pending either: what was done before its process died is done again only then. */
  async settled(): Promise<Account> {
    const { lost } = await this.ledger.settled();
    if (lost.length === 0) await this.untilSettled();
    return this.ledger.account();
  }

  async untilSettled(limit = 15_000): Promise<void> {
    const { pattern } = this.#plan;
    await until('nothing is pending', async () => (await pendingOf(this.#admin, pattern, GROUP)).length === 0, limit);
  }

  /** Messages that were done more often than processes died with them in their hands. */
  unexplained(): string[] {
    const idOf = new Map(this.starts.map(({ n, id }) => [String(n), id]));
    const { duplicates } = this.ledger.account();
    return [...duplicates].flatMap(([n, times]) => (times > this.#crashesOf(idOf.get(n) as string) ? n : []));
  }

  #started(start: Start): void {
    this.starts.push(start);
    const { id, deliveryCount } = start;
    const isNext = deliveryCount === (this.#deliveries.get(id) ?? 0) + 1;
    if (!isNext || deliveryCount > 1 + this.#crashesOf(id)) this.miscounted.push(start);
  }

  async #pendingOf(name: string): Promise<Array<[id: string, consumer: string, idle: number, deliveryCount: number]>> {
    // The server has dealt with what it was told before, the end of a connection too, once it has answered.
    await this.#admin.ping();
    return (await this.#admin.xpending(this.#plan.pattern, GROUP, '-', '+', 10_000, name)) as never;
  }

  #crashesOf(id: string): number {
    return this.crashes.get(id) ?? 0;
  }
}
