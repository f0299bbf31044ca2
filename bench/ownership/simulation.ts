import { Partition } from '../../lib/engine/consuming/partition.js';
import type { ConsumerSession } from '../../lib/engine/consuming/consumer-session.js';
import { ShardOwnership } from '../../lib/engine/consuming/ownership/shard-ownership.js';
import { LeaseServer } from './lease-server.js';
import { seededRandom, VirtualClock } from './virtual-clock.js';

export const SCENARIOS = ['together', 'in-turn', 'one-joins', 'one-ends', 'one-dies', 'half-die', 'rolling'] as const;
export type Scenario = (typeof SCENARIOS)[number];

export interface SimulationOptions {
  readonly scenario: Scenario;
  readonly members: number;
  readonly shards: number;
  readonly seed: number;
  readonly leaseTime?: number;
  /** Longest time of a message over the network, in milliseconds. */
  readonly delay?: number;
  /** Part of the messages that is lost. */
  readonly loss?: number;
  /** How long handlers take to end when a shard is handed over, in milliseconds. */
  readonly handlerTime?: number;
}

export interface SimulationResult {
  /** Seconds from the event until the shards were spread evenly for good; undefined when they never were. */
  readonly evenAfter: number | undefined;
  readonly moves: number;
  /** How many shards must have moved for the same result. */
  readonly leastMoves: number;
  /** Commands in the second with the most, and in each second once all is even. */
  readonly commandsAtMost: number;
  readonly commandsAtRest: number;
  /** Seconds in which a shard had no owner. */
  readonly longestWithoutOwner: number;
  /** Moments in which two members could hand out messages of one shard. */
  readonly doubleOwners: number;
  /** The shares of the members in the end, as the least and the most. */
  readonly least: number;
  readonly most: number;
}

/** Between two looks at the spread, in milliseconds. */
const LOOK = 100;
const LIMIT = 300_000;
/** How long the spread must be even to count, in lease times. */
const QUIET = 2;

interface Member {
  readonly name: string;
  readonly ownership: ShardOwnership;
  isDead: boolean;
}

/** The real {@link ShardOwnership} of many members, in virtual time and with a server in memory. */
export async function simulateOwnership(options: SimulationOptions): Promise<SimulationResult> {
  const clock = new VirtualClock();
  const uninstall = clock.install(seededRandom(options.seed));
  try {
    return await new Simulation(clock, options).run();
  } finally {
    uninstall();
  }
}

class Simulation {
  readonly #clock: VirtualClock;
  readonly #options: Required<SimulationOptions>;
  readonly #server: LeaseServer;
  readonly #partitions: readonly Partition[];
  readonly #members = new Set<Member>();
  readonly #holders = new Map<string, { readonly member: Member; readonly partition: Partition }>();
  #doubleOwners = 0;
  #started = 0;

  constructor(clock: VirtualClock, options: SimulationOptions) {
    this.#clock = clock;
    this.#options = { leaseTime: 10_000, delay: 2, loss: 0, handlerTime: 50, ...options };
    const { delay, loss, shards } = this.#options;
    this.#server = new LeaseServer(clock, { delay: () => delay * Math.random(), isLost: () => Math.random() < loss });
    this.#partitions = Array.from({ length: shards }, (_, shard) => new Partition('orders', shard, `orders:${shard}`));
  }

  async run(): Promise<SimulationResult> {
    const { scenario, members } = this.#options;
    const startsEven = scenario !== 'together' && scenario !== 'in-turn';
    if (startsEven) {
      this.#startAll(members);
      await this.#untilEven();
    }
    const before = this.#server.spread;
    this.#server.countAgain();
    const begun = this.#clock.now;
    await this.#event();
    const evenAt = await this.#untilEven();
    const { moves, longestWithoutOwner } = this.#server;
    const commandsAtMost = Math.max(...this.#server.perSecond.filter((count) => count !== undefined));
    const spread = this.#server.spread;
    this.#server.countAgain();
    const rest = 3 * this.#options.leaseTime;
    await this.#clock.pass(rest);
    const { sent } = this.#server;
    const owned = [...this.#members].map(({ name }) => spread.get(name) ?? 0);
    for (const member of this.#members) this.#kill(member);
    await this.#clock.pass(2_000);
    return {
      evenAfter: evenAt === undefined ? undefined : (evenAt - begun) / 1_000,
      moves,
      leastMoves: [...spread].reduce((sum, [name, count]) => sum + Math.max(0, count - (before.get(name) ?? 0)), 0),
      commandsAtMost,
      commandsAtRest: (1_000 * sent) / rest,
      longestWithoutOwner: longestWithoutOwner / 1_000,
      doubleOwners: this.#doubleOwners,
      least: Math.min(...owned),
      most: Math.max(...owned),
    };
  }

  async #event(): Promise<void> {
    const { scenario, members } = this.#options;
    const [first] = this.#members;
    switch (scenario) {
      case 'together':
        this.#startAll(members);
        return;
      case 'in-turn':
        for (let count = 0; count < members; count += 1) {
          this.#start();
          await this.#clock.pass(30_000 / members);
        }
        return;
      case 'one-joins':
        this.#start();
        return;
      case 'one-ends':
        if (first) void this.#end(first);
        return;
      case 'one-dies':
        if (first) this.#kill(first);
        return;
      case 'half-die':
        for (const member of [...this.#members].slice(0, members / 2)) this.#kill(member);
        return;
      case 'rolling':
        await this.#replaceAll();
    }
  }

  /** A tenth of the members at a time, as a Deployment does: a new one starts, and the old one ends a few seconds later. */
  async #replaceAll(): Promise<void> {
    const old = [...this.#members];
    const surge = Math.ceil(old.length / 10);
    for (let at = 0; at < old.length; at += surge) {
      const leaving = old.slice(at, at + surge);
      this.#startAll(leaving.length);
      await this.#clock.pass(5_000);
      for (const member of leaving) void this.#end(member);
      await this.#clock.pass(1_000);
    }
  }

  #startAll(count: number): void {
    for (let started = 0; started < count; started += 1) this.#start();
  }

  #start(): void {
    this.#started += 1;
    const name = `member-${this.#started}`;
    const { leaseTime, handlerTime } = this.#options;
    const ownership = this.#server.commandsOf(() => member.isDead);
    const session = {
      options: {
        group: 'billing',
        consumer: name,
        leaseTime,
        leaseRenewal: 'loop',
        mkStream: true,
        autoStreamReset: 'latest',
      },
      environment: {
        control: {
          ownership,
          reading: { streamInfo: () => Promise.resolve({ lastGeneratedId: '0-0' }) },
          groups: { createGroup: () => Promise.resolve(true) },
        },
        logger: { debug: () => undefined },
        shutdownTimeout: 10_000,
      },
      acknowledgeBy: () => undefined,
      open: () => Promise.resolve(),
      add: ([partition]: Partition[]) => this.#hold(member, partition as Partition),
      remove: () => this.#clock.after(handlerTime * Math.random()),
      fence: () => undefined,
      removeName: () => Promise.resolve(),
      sendAcks: () => Promise.resolve(),
    };
    const nothing = { onAssigned: () => undefined, onRevoked: () => undefined, onError: () => undefined };
    const member: Member = {
      name,
      ownership: new ShardOwnership(session as unknown as ConsumerSession, nothing),
      isDead: false,
    };
    this.#members.add(member);
    // A start whose messages are lost is repeated, as a Nest server does.
    const open = (): Promise<void> =>
      member.ownership.open(this.#partitions).catch(() => (member.isDead ? undefined : open()));
    void open();
  }

  #hold(member: Member, partition: Partition): Promise<void> {
    const holder = this.#holders.get(partition.key);
    const isHeld = holder?.partition.lease?.isValid === true && holder.member !== member && !holder.member.isDead;
    if (isHeld) this.#doubleOwners += 1;
    this.#holders.set(partition.key, { member, partition });
    return Promise.resolve();
  }

  #kill(member: Member): void {
    member.isDead = true;
    this.#members.delete(member);
    void member.ownership.close().then(() => member.ownership.release());
  }

  async #end(member: Member): Promise<void> {
    this.#members.delete(member);
    await member.ownership.close();
    await this.#clock.after(this.#options.handlerTime * Math.random());
    await member.ownership.release();
  }

  /** When the shards became spread evenly and stayed so. */
  async #untilEven(): Promise<number | undefined> {
    const until = this.#clock.now + LIMIT;
    let since: number | undefined;
    while (this.#clock.now < until) {
      if (!this.#isEven()) since = undefined;
      else since ??= this.#clock.now;
      if (since !== undefined && this.#clock.now - since >= QUIET * this.#options.leaseTime) return since;
      await this.#clock.pass(LOOK);
    }
    return undefined;
  }

  #isEven(): boolean {
    const { spread } = this.#server;
    const least = Math.floor(this.#partitions.length / this.#members.size);
    let owned = 0;
    for (const { name } of this.#members) {
      const count = spread.get(name) ?? 0;
      if (count < least || count > least + 1) return false;
      owned += count;
    }
    return owned === this.#partitions.length;
  }
}
