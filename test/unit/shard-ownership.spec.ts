import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';

import { seededRandom, VirtualClock } from '../../bench/ownership/virtual-clock.js';
import type { ConsumerSession } from '../../lib/engine/consuming/consumer-session.js';
import { ShardLease } from '../../lib/engine/consuming/ownership/shard-lease.js';
import { ShardOwnership } from '../../lib/engine/consuming/ownership/shard-ownership.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { ConnectionError } from '../../lib/errors.js';
import type { GroupShares, OwnershipCommands, ShareReport } from '../../lib/redis/commands/shard-owners.js';
import type { ThreadLease } from '../../lib/redis/connection/renewal-thread.js';

const LEASE_TIME = 10_000;
const nothing = (): void => undefined;

/** The only member of its group that the test runs, and what the others and the server do. */
class LonelyMember {
  readonly owned: string[] = [];
  readonly errors: string[] = [];
  readonly asked: string[] = [];
  readonly withdrawn: string[] = [];
  /** How many leases each message to the thread had. */
  readonly sentToThread: number[] = [];
  /** Owners of shards, by key; the others are free. */
  readonly owners = new Map<string, string>();
  readonly #clock: VirtualClock;
  readonly #requests = new Map<string, number>();
  members = 1;
  /** Keys of shards whose node does not answer. */
  readonly unreachable = new Set<string>();
  join: (report: ShareReport) => Promise<GroupShares> = () => this.shares();
  /** Resolves when the owners of shards may be read. */
  mayRead: Promise<void> = Promise.resolve();
  readonly ownership: ShardOwnership;

  constructor(clock: VirtualClock, leaseRenewal: 'loop' | 'thread' = 'loop') {
    this.#clock = clock;
    const isAsked = (key: string): boolean => this.requests.includes(key);
    const ownership: OwnershipCommands = {
      requireSideKeys: nothing,
      threadLeaseOf: ({ streamKey }) => ({ key: streamKey }) as ThreadLease,
      join: (report) => this.join(report),
      leave: () => Promise.resolve(),
      owners: async (shards) => {
        await this.mayRead;
        return shards.map(({ streamKey }) => {
          if (this.unreachable.has(streamKey)) return new Error('the node is away');
          const consumer = this.owners.get(streamKey);
          return consumer === undefined ? undefined : { consumer, generation: 1n, expiresIn: LEASE_TIME };
        });
      },
      acquire: ({ streamKey }) => Promise.resolve(this.owners.has(streamKey) ? undefined : 1n),
      renew: () => Promise.resolve({ wantedBy: undefined }),
      wanted: (shards) => Promise.resolve(shards.map(({ streamKey }) => (isAsked(streamKey) ? 'me' : undefined))),
      ask: ({ streamKey }, _, ttl) => {
        this.asked.push(streamKey);
        this.#requests.set(streamKey, clock.now + ttl);
        return Promise.resolve(true);
      },
      withdraw: ({ streamKey }) => {
        this.withdrawn.push(streamKey);
        this.#requests.delete(streamKey);
        return Promise.resolve();
      },
      release: () => Promise.resolve(),
      takeOver: () => Promise.resolve({ taken: [], next: undefined }),
      ack: (_, ids) => Promise.resolve(ids.length),
    };
    const session = {
      options: { group: 'g', consumer: 'me', leaseTime: LEASE_TIME, leaseRenewal, mkStream: true },
      environment: {
        control: {
          ownership,
          reading: { streamInfo: () => Promise.resolve({ lastGeneratedId: '0-0' }) },
          groups: { createGroup: () => Promise.resolve() },
        },
        createRenewalClient: () => ({
          setLeases: (leases: readonly ThreadLease[]) => this.sentToThread.push(leases.length),
          renewedAt: () => -Infinity,
          close: () => Promise.resolve(),
        }),
        logger: { debug: nothing },
        shutdownTimeout: 1_000,
      },
      acknowledgeBy: nothing,
      open: () => Promise.resolve(),
      add: ([partition]: Partition[]) => Promise.resolve(void this.owned.push((partition as Partition).key)),
      remove: () => Promise.resolve(),
      fence: nothing,
      removeName: () => Promise.resolve(),
      sendAcks: () => Promise.resolve(),
    };
    this.ownership = new ShardOwnership(session as unknown as ConsumerSession, {
      onAssigned: nothing,
      onRevoked: nothing,
      onError: ({ code }) => this.errors.push(code),
    });
  }

  /** Keys of the shards that it has asked for, on the server. */
  get requests(): string[] {
    return [...this.#requests].filter(([, expiresAt]) => expiresAt > this.#clock.now).map(([key]) => key);
  }

  shares(): Promise<GroupShares> {
    return Promise.resolve({ members: this.members, above: 0, most: 4, loadOfMost: 4 });
  }

  async end(): Promise<void> {
    await this.ownership.close();
    await this.ownership.release();
  }
}

function shardsOf(stream: string, count: number): Partition[] {
  return Array.from({ length: count }, (_, shard) => new Partition(stream, shard, `${stream}:${shard}`));
}

describe('the shares of a consumer with owned shards', () => {
  const clock = new VirtualClock();
  let uninstall = nothing;
  beforeEach(() => {
    uninstall = clock.install(seededRandom(3));
  });
  afterEach(() => uninstall());

  it('a stream whose node does not answer holds up the shares of no other', async () => {
    const member = new LonelyMember(clock);
    member.members = 2;
    member.owners.set('away:0', 'other').set('here:0', 'other');
    await member.ownership.open([...shardsOf('away', 1), ...shardsOf('here', 1)]);
    member.join = ({ streamKey }) => (streamKey === 'away' ? new Promise(nothing) : member.shares());
    await clock.pass(20_000);
    member.owners.clear();
    await clock.pass(10_000);
    expect(member.owned).toEqual(['here:0']);
    await end(member);
  });

  it('a stream whose rounds fail is tried again with a back-off, and many of them are reported once', async () => {
    const member = new LonelyMember(clock);
    const streams = ['away', 'away too'];
    let tried = 0;
    await member.ownership.open([...streams, 'here'].flatMap((stream) => shardsOf(stream, 1)));
    await untilTrue(() => member.owned.length === 3);
    member.join = ({ streamKey }) => {
      if (!streams.includes(streamKey)) return member.shares();
      tried += 1;
      return Promise.reject(new ConnectionError('the node is away'));
    };
    await clock.pass(60_000);
    expect(tried).toBeGreaterThan(2 * 10);
    expect(tried).toBeLessThan(2 * 25);
    expect(member.errors).toEqual(['ERR_CONNECTION']);
    member.join = () => member.shares();
    await clock.pass(10_000);
    member.join = () => Promise.reject(new ConnectionError('another outage'));
    await clock.pass(10_000);
    expect(member.errors).toEqual(['ERR_CONNECTION', 'ERR_CONNECTION']);
    await end(member);
  });

  it('a shard whose owner cannot be read does not keep the member from reporting to the others', async () => {
    const member = new LonelyMember(clock);
    const reports: number[] = [];
    member.members = 2;
    for (const key of ['s:0', 's:1']) member.owners.set(key, 'other');
    member.unreachable.add('s:0');
    member.join = () => {
      reports.push(clock.now);
      return member.shares();
    };
    const opening = member.ownership.open(shardsOf('s', 2)).catch(nothing);
    await clock.pass(100);
    await opening;
    member.unreachable.clear();
    await member.ownership.open([]);
    member.unreachable.add('s:0');
    await clock.pass(60_000);
    const gaps = reports.slice(1).map((at, index) => at - (reports[index] as number));
    expect(Math.max(...gaps)).toBeLessThan(LEASE_TIME / 2);
    await end(member);
  });

  it('a stream that is removed while the owners of its shards are read is asked for no more', async () => {
    const member = new LonelyMember(clock);
    await member.ownership.open(shardsOf('other', 1));
    await untilTrue(() => member.owned.length === 1);
    member.members = 2;
    for (const key of ['s:0', 's:1']) member.owners.set(key, 'other');
    let read = nothing;
    member.mayRead = new Promise((resolve) => (read = resolve));
    const shards = shardsOf('s', 2);
    await member.ownership.add(shards, false);
    await clock.pass(5_000);
    const removing = member.ownership.remove(shards);
    await clock.pass(100);
    read();
    await clock.pass(5_000);
    await removing;
    expect(member.asked).toEqual([]);
    await end(member);
  });

  it('a stream whose node does not answer keeps no request for another one when the member ends', async () => {
    const member = new LonelyMember(clock);
    member.members = 2;
    for (const key of ['here:0', 'here:1', 'away:0']) member.owners.set(key, 'other');
    await member.ownership.open([...shardsOf('away', 1), ...shardsOf('here', 2)]);
    member.join = ({ streamKey }) => (streamKey === 'away' ? new Promise(nothing) : member.shares());
    await untilTrue(() => member.requests.includes('here:0') || member.requests.includes('here:1'));
    const ended = member.end();
    await clock.pass(2_000);
    expect(member.requests).toEqual([]);
    await clock.pass(10_000);
    await ended;
  });

  it('a request that has expired is forgotten: of those that live, only what is too many is withdrawn', async () => {
    const member = new LonelyMember(clock);
    member.members = 2;
    const shards = shardsOf('s', 4);
    for (const { key } of shards) member.owners.set(key, 'other');
    await member.ownership.open(shards);
    await untilTrue(() => new Set(member.asked).size === 4);
    await clock.pass(LEASE_TIME / 2);
    expect(member.withdrawn).toEqual([]);
    const { length } = member.asked;
    member.members = 4;
    await clock.pass(2_000);
    expect(member.withdrawn).toHaveLength(1);
    expect(member.asked).toHaveLength(length);
    await end(member);
  });

  it('the thread is sent the leases of shards that are taken together once', async () => {
    const member = new LonelyMember(clock, 'thread');
    await member.ownership.open(shardsOf('s', 20));
    await untilTrue(() => member.owned.length === 20 && member.sentToThread.length > 0);
    expect(member.sentToThread).toEqual([20]);
    await end(member);
  });

  async function end(member: LonelyMember): Promise<void> {
    const ended = member.end();
    await clock.pass(10_000);
    await ended;
  }

  async function untilTrue(condition: () => boolean): Promise<void> {
    for (let step = 0; step < 1_000 && !condition(); step += 1) await clock.pass(100);
    expect(condition()).toBe(true);
  }
});

describe('the lease of a shard', () => {
  const HELD = { streamKey: 's', group: 'g', consumer: 'c', generation: 1n };
  const clock = new VirtualClock();

  it('is valid for 80 % of its time after a renewal was sent, by the event loop or by the thread', () => {
    const uninstall = clock.install(seededRandom(1));
    try {
      let renewedByThread = -Infinity;
      const lease = new ShardLease(HELD, 0, 1_000, () => renewedByThread);
      clock.now = 799;
      expect(lease.isValid).toBe(true);
      clock.now = 800;
      expect(lease.isValid).toBe(false);
      lease.extend(100);
      expect(lease.isValid).toBe(true);
      clock.now = 900;
      expect(lease.isValid).toBe(false);
      renewedByThread = 600;
      expect(lease.isValid).toBe(true);
      // To ask changes nothing.
      renewedByThread = -Infinity;
      expect(lease.isValid).toBe(false);
      lease.extend(800);
      lease.end();
      expect(lease.isValid).toBe(false);
    } finally {
      uninstall();
    }
  });
});
