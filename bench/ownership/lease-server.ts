import type {
  GroupShard,
  GroupShares,
  HeldLease,
  OwnershipCommands,
  ShardOwner,
  ShareReport,
} from '../../lib/redis/commands/shard-owners.js';
import type { VirtualClock } from './virtual-clock.js';

interface Lease {
  readonly consumer: string;
  readonly generation: bigint;
  expiresAt: number;
}

export interface Network {
  /** Milliseconds from a member to the server, and back. */
  readonly delay: () => number;
  readonly isLost: () => boolean;
}

type CommandName = 'join' | 'leave' | 'owners' | 'acquire' | 'renew' | 'ask' | 'release';

/** After which a command without a reply fails, in milliseconds. */
const REPLY_TIMEOUT = 2_000;

/** Does in memory what the scripts of shard leases do in Redis, and counts it. */
export class LeaseServer {
  readonly commands: Record<CommandName, number> = {
    join: 0,
    leave: 0,
    owners: 0,
    acquire: 0,
    renew: 0,
    ask: 0,
    release: 0,
  };
  /** Since when shards have had no owner, by key. */
  readonly #freeSince = new Map<string, number>();
  longestWithoutOwner = 0;
  moves = 0;
  /** Commands in each second. */
  readonly perSecond: number[] = [];
  readonly #clock: VirtualClock;
  readonly #network: Network;
  readonly #leases = new Map<string, Lease>();
  readonly #generations = new Map<string, bigint>();
  readonly #wanted = new Map<string, { readonly consumer: string; readonly expiresAt: number }>();
  readonly #members = new Map<string, number>();
  readonly #shares = new Map<string, { readonly owned: number; readonly load: number }>();

  constructor(clock: VirtualClock, network: Network) {
    this.#clock = clock;
    this.#network = network;
  }

  /** How many shards each consumer owns. */
  get spread(): Map<string, number> {
    const spread = new Map<string, number>();
    for (const key of this.#leases.keys()) {
      const lease = this.#leaseOf(key);
      if (lease) spread.set(lease.consumer, (spread.get(lease.consumer) ?? 0) + 1);
    }
    return spread;
  }

  get sent(): number {
    return Object.values(this.commands).reduce((sum, count) => sum + count, 0);
  }

  /** The commands of one member; none of them is answered once it is dead. */
  commandsOf(isDead: () => boolean): OwnershipCommands {
    const send = async <T>(name: CommandName, count: number, run: () => T): Promise<T> => {
      const { delay, isLost } = this.#network;
      await this.#clock.after(delay());
      if (isDead()) return new Promise<T>(() => undefined);
      if (isLost()) return this.#timeout();
      this.#count(name, count);
      const reply = run();
      await this.#clock.after(delay());
      if (isDead()) return new Promise<T>(() => undefined);
      if (isLost()) return this.#timeout();
      return reply;
    };
    return {
      requireSideKeys: () => undefined,
      threadLeaseOf: ({ streamKey }, ttl) => ({ key: streamKey, value: '', ttl }) as never,
      join: (report) => send('join', 1, () => this.#join(report)),
      leave: (_, __, consumer) => send('leave', 1, () => this.#leave(consumer)),
      owners: (shards) => send('owners', 2 * shards.length, () => shards.map((shard) => this.#ownerOf(shard))),
      acquire: (shard, consumer, ttl) => send('acquire', 1, () => this.#acquire(shard.streamKey, consumer, ttl)),
      renew: (lease, ttl) => send('renew', 1, () => this.#renew(lease, ttl)),
      ask: (shard, consumer, ttl) => send('ask', 1, () => this.#ask(shard.streamKey, consumer, ttl)),
      wanted: (shards) => send('ask', shards.length, () => shards.map(({ streamKey }) => this.#wantedBy(streamKey))),
      withdraw: ({ streamKey }, consumer) => send('ask', 1, () => this.#withdraw(streamKey, consumer)),
      release: (lease) => send('release', 1, () => this.#release(lease)),
      takeOver: () => Promise.resolve({ taken: [], next: undefined }),
      ack: (_, ids) => Promise.resolve(ids.length),
    };
  }

  /** Forgets what was counted, so that what follows is counted alone. */
  countAgain(): void {
    for (const name of Object.keys(this.commands)) this.commands[name as CommandName] = 0;
    this.moves = 0;
    this.longestWithoutOwner = 0;
    this.perSecond.length = 0;
  }

  async #timeout(): Promise<never> {
    await this.#clock.after(REPLY_TIMEOUT);
    throw new Error('no reply');
  }

  #count(name: CommandName, count: number): void {
    this.commands[name] += count;
    const second = Math.floor(this.#clock.now / 1_000);
    this.perSecond[second] = (this.perSecond[second] ?? 0) + count;
  }

  #leaseOf(key: string): Lease | undefined {
    const lease = this.#leases.get(key);
    if (!lease || lease.expiresAt > this.#clock.now) return lease;
    this.#leases.delete(key);
    this.#freeSince.set(key, lease.expiresAt);
    return undefined;
  }

  #ownerOf({ streamKey }: GroupShard): ShardOwner | undefined {
    const lease = this.#leaseOf(streamKey);
    return lease && { ...lease, expiresIn: lease.expiresAt - this.#clock.now };
  }

  #wantedBy(key: string): string | undefined {
    const wanted = this.#wanted.get(key);
    return wanted && wanted.expiresAt > this.#clock.now ? wanted.consumer : undefined;
  }

  #acquire(key: string, consumer: string, ttl: number): bigint | undefined {
    const held = this.#leaseOf(key);
    if (held && held.consumer !== consumer) return undefined;
    const wanted = this.#wantedBy(key);
    if (wanted !== undefined && wanted !== consumer) return undefined;
    const generation = (this.#generations.get(key) ?? 0n) + 1n;
    this.#generations.set(key, generation);
    this.#leases.set(key, { consumer, generation, expiresAt: this.#clock.now + ttl });
    this.#wanted.delete(key);
    const freeSince = this.#freeSince.get(key) ?? this.#clock.now;
    this.longestWithoutOwner = Math.max(this.longestWithoutOwner, this.#clock.now - freeSince);
    this.#freeSince.delete(key);
    this.moves += 1;
    return generation;
  }

  #renew(
    { streamKey: key, consumer, generation }: HeldLease,
    ttl: number,
  ): { wantedBy: string | undefined } | undefined {
    const held = this.#leaseOf(key);
    if (held ? held.generation !== generation : this.#generations.get(key) !== generation) return undefined;
    this.#leases.set(key, { consumer, generation, expiresAt: this.#clock.now + ttl });
    this.#freeSince.delete(key);
    return { wantedBy: this.#wantedBy(key) };
  }

  #ask(key: string, consumer: string, ttl: number): boolean {
    if (this.#wantedBy(key) !== undefined) return false;
    this.#wanted.set(key, { consumer, expiresAt: this.#clock.now + ttl });
    return true;
  }

  #release({ streamKey: key, generation }: HeldLease): void {
    if (this.#leaseOf(key)?.generation !== generation) return;
    this.#leases.delete(key);
    this.#freeSince.set(key, this.#clock.now);
  }

  #withdraw(key: string, consumer: string): void {
    if (this.#wantedBy(key) === consumer) this.#wanted.delete(key);
  }

  #leave(consumer: string): void {
    this.#members.delete(consumer);
    this.#shares.delete(consumer);
  }

  #join({ consumer, ttl, shards, owned, load }: ShareReport): GroupShares {
    const { now } = this.#clock;
    this.#members.set(consumer, now + ttl);
    this.#shares.set(consumer, { owned, load });
    for (const [member, goneAt] of this.#members) if (goneAt <= now) this.#leave(member);
    const members = this.#members.size;
    const least = Math.floor(shards / members);
    let above = 0;
    let most = { owned: 0, load: 0 };
    for (const share of this.#shares.values()) {
      if (share.owned > least) above += 1;
      if (share.owned > most.owned || (share.owned === most.owned && share.load > most.load)) most = share;
    }
    return { members, above, most: most.owned, loadOfMost: most.load };
  }
}
