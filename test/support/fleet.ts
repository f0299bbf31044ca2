import { withResolvers } from '../../lib/shared/deferred.js';
import type { HandlerExtras, ServerRedisStreamsOptions, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import type { FaultBench } from './fault-bench.js';
import { Ledger } from './ledger.js';
import type { Account } from './ledger.js';
import type { ChildTask } from './nest-child.js';
import type { NestProcess, useNestProcesses } from './nest-process.js';
import { pendingOf } from './streams.js';
import type { TestRedis } from './test-redis.js';
import { until } from './until.js';

/** One start of a handler with a message. */
export interface Start {
  readonly service: string;
  readonly n: number;
  readonly id: string;
  readonly deliveryCount: number;
}

/** A service process of the fleet; its name is also its consumer name. */
export interface Service extends NestProcess {
  readonly name: string;
  /** Messages whose handlers have started and not finished. */
  inFlight(): number[];
  done(): number[];
}

export interface FleetPlan {
  readonly redis: TestRedis;
  readonly pattern: string;
  readonly options: Partial<ServerRedisStreamsOptions>;
  readonly extras?: HandlerExtras | undefined;
}

const GROUP = 'fleet';

/** The services of one group, each in its own process; one ledger records their work. */
export class Fleet {
  readonly ledger = new Ledger();
  readonly starts: Start[] = [];
  /**
   * Starts with a wrong delivery count: not one more than the entry had when its last owner died, or higher than 1 plus
   * the number of owners that died.
   */
  readonly miscounted: Start[] = [];
  /** For each entry id, how many processes died while they owned the entry. */
  readonly crashes = new Map<string, number>();
  /** For each entry id, the delivery count when its last owner died. */
  readonly #deliveries = new Map<string, number>();
  readonly #bench: FaultBench;
  readonly #start: ReturnType<typeof useNestProcesses>;
  readonly #admin: RedisClient;
  readonly #plan: FleetPlan;

  /**
   * The bench must clean up before the processes are killed, so that `supervise()` does not restart them after a test.
   */
  constructor(bench: FaultBench, start: ReturnType<typeof useNestProcesses>, plan: FleetPlan) {
    this.#bench = bench;
    this.#start = start;
    this.#admin = plan.redis.client();
    this.#plan = plan;
  }

  /** Sends one task and records the outcome in the ledger. */
  async send(producer: StreamProducer, task: ChildTask, headers: Record<string, string> = {}): Promise<void> {
    await this.ledger.sent(String(task.n), producer.send(JSON.stringify(task), { headers }));
  }

  async start(name: string, options: Partial<ServerRedisStreamsOptions> = {}): Promise<Service> {
    const { redis, pattern, extras } = this.#plan;
    const orders = { connection: redis.connection, group: GROUP, consumer: name, ...this.#plan.options, ...options };
    const service = await this.#start({ pattern, options: orders, extras, isSilent: true }, (event) => {
      const { started: n, id = '', deliveryCount = 0, done } = event;
      if (n !== undefined) this.#started({ service: name, n, id, deliveryCount });
      if (done !== undefined) this.ledger.handledMessage({ id, text: () => String(done) });
    });
    const done = (): number[] => service.events.flatMap((event) => event.done ?? []);
    const inFlight = (): number[] => {
      const ended = new Set(done());
      return service.events.flatMap(({ started }) => (started === undefined || ended.has(started) ? [] : started));
    };
    return Object.assign(service, { name, done, inFlight });
  }

  /** Sends SIGKILL while handlers run; returns the entries that the process owned. */
  async kill(service: Service): Promise<string[]> {
    await until(`a handler of ${service.name} runs`, () => service.inFlight().length > 0);
    service.kill('SIGKILL');
    return this.recordDeath(service);
  }

  /** Waits until the process has exited, records the entries that it owned, and returns their ids. */
  async recordDeath(service: Service): Promise<string[]> {
    await service.ended;
    const rows = await this.#pendingOf(service.name);
    for (const [id, , , deliveryCount] of rows) {
      this.crashes.set(id, this.#crashesOf(id) + 1);
      this.#deliveries.set(id, deliveryCount);
    }
    return rows.map(([id]) => id);
  }

  /**
   * Restarts a service whenever it has ended, as an orchestrator does; `stop()` resolves with the number of restarts.
   */
  supervise(name: string): { stop(): Promise<number> } {
    const stopping = withResolvers<undefined>();
    const run = async (): Promise<number> => {
      for (let life = 0; ; life += 1) {
        const service = await this.start(`${name}-${life}`);
        if ((await Promise.race([service.ended, stopping.promise])) === undefined) return life;
        await this.recordDeath(service);
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

  /** The ids of the entries that the server lists as pending for a service. */
  async pendingIds(name: string): Promise<string[]> {
    return (await this.#pendingOf(name)).map(([id]) => id);
  }

  /**
   * Waits until every message is handled and nothing is pending: a message whose process died before its ack is handled
   * again only then.
   */
  async settled(limit?: number): Promise<Account> {
    const { lost } = await this.ledger.settled(limit);
    if (lost.length === 0) await this.untilSettled(limit);
    return this.ledger.account();
  }

  async untilSettled(limit = 15_000): Promise<void> {
    const { pattern } = this.#plan;
    const isSettled = async (): Promise<boolean> => {
      // Between two reads of a busy service nothing may be pending although the stream has more.
      const [[, , , , , , , lastDelivered]] = (await this.#admin.xinfo('GROUPS', pattern)) as [string[]];
      const [[lastId] = []] = await this.#admin.xrevrange(pattern, '+', '-', 'COUNT', 1);
      return lastDelivered === lastId && (await pendingOf(this.#admin, pattern, GROUP)).length === 0;
    };
    await until('everything is read, and nothing is pending', isSettled, limit);
  }

  /** Messages with more repetitions than processes died while they owned them. */
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
    // After its reply the server has processed everything sent before, including the end of the process's connections.
    await this.#admin.exists(this.#plan.pattern);
    return (await this.#admin.xpending(this.#plan.pattern, GROUP, '-', '+', 10_000, name)) as never;
  }

  #crashesOf(id: string): number {
    return this.crashes.get(id) ?? 0;
  }
}
