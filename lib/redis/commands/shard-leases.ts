import { UnsupportedOperationError } from '../../errors.js';
import {
  ACK_OWNED,
  ACQUIRE_SHARD,
  JOIN_OWNERS,
  KEEP_SHARD,
  LEAVE_OWNERS,
  RELEASE_SHARD,
  RENEW_SHARD,
  TAKE_OVER_SHARD,
} from '../scripts/shard-leases.js';
import type { ThreadLease } from '../connection/renewal-thread.js';
import type { Script } from '../scripts/script.js';
import type { CommandArgument } from '../wire/resp-writer.js';
import type { CommandSender } from './command-sender.js';
import { nextEntryId } from './entry-id.js';
import { throwFirst } from './replies.js';
import type {
  GroupShard,
  GroupShares,
  HeldLease,
  OwnershipCommands,
  ShardOwner,
  ShareReport,
  TakenOver,
  TakeOverRequest,
} from './shard-owners.js';

/** Fraction of the score of a share that stands for one shard of any stream. */
const LOAD_UNIT = 1_000_000;

/** Who owns the shards of a group: leases beside the shards, members beside the stream. Each change is one script. */
export class RedisOwnershipCommands implements OwnershipCommands {
  readonly #sender: CommandSender;

  constructor(sender: CommandSender) {
    this.#sender = sender;
  }

  requireSideKeys({ streamKey, group }: GroupShard): void {
    leaseKey(this.#sender, { streamKey, group });
  }

  async join({ streamKey, group, consumer, ttl, shards, owned, load }: ShareReport): Promise<GroupShares> {
    const reply = await this.#run(JOIN_OWNERS, this.#memberKeys(streamKey, group), [
      consumer,
      ttl,
      shards,
      owned,
      load,
    ]);
    const [members, above, most] = reply as [number, number, string];
    const score = Math.round(Number(most) * LOAD_UNIT);
    return { members, above, most: Math.floor(score / LOAD_UNIT), loadOfMost: score % LOAD_UNIT };
  }

  async leave(streamKey: string, group: string, consumer: string): Promise<void> {
    await this.#run(LEAVE_OWNERS, this.#memberKeys(streamKey, group), [consumer]);
  }

  async owners(shards: readonly GroupShard[]): Promise<Array<ShardOwner | Error | undefined>> {
    return Promise.all(shards.map((shard) => this.#ownerOf(shard).catch((error: unknown) => error as Error)));
  }

  async #ownerOf(shard: GroupShard): Promise<ShardOwner | undefined> {
    const key = leaseKey(this.#sender, shard);
    const replies = await this.#sender.pipeline(key, [
      ['GET', key],
      ['PTTL', key],
    ]);
    throwFirst(replies);
    const [lease, expiresIn] = replies as [string | null, number];
    return lease === null ? undefined : { ...parseLease(lease), expiresIn: Math.max(0, expiresIn) };
  }

  async acquire(shard: GroupShard, consumer: string, ttl: number): Promise<bigint | undefined> {
    const reply = await this.#run(ACQUIRE_SHARD, this.#leaseKeys(shard), [consumer, ttl]);
    return reply === null ? undefined : BigInt(reply as string);
  }

  async renew(lease: HeldLease, ttl: number): Promise<{ wantedBy: string | undefined } | undefined> {
    const args = [leaseText(lease), String(lease.generation), ttl];
    const reply = await this.#run(RENEW_SHARD, this.#leaseKeys(lease), args);
    return reply === null ? undefined : { wantedBy: (reply as string) || undefined };
  }

  async wanted(shards: readonly GroupShard[]): Promise<Array<string | undefined>> {
    return Promise.all(
      shards.map(async ({ streamKey, group }) => {
        const key = this.#sender.sideKey('wanted', streamKey, group);
        return ((await this.#sender.text(key, ['GET', key])) as string | null) ?? undefined;
      }),
    );
  }

  async ask(shard: GroupShard, consumer: string, ttl: number): Promise<boolean> {
    const key = this.#sender.sideKey('wanted', shard.streamKey, shard.group);
    return (await this.#sender.text(key, ['SET', key, consumer, 'PX', ttl, 'NX'])) === 'OK';
  }

  threadLeaseOf(lease: HeldLease, ttl: number): ThreadLease {
    return { key: leaseKey(this.#sender, lease), script: KEEP_SHARD, args: [leaseText(lease), String(ttl)] };
  }

  async withdraw({ streamKey, group }: GroupShard, consumer: string): Promise<void> {
    await this.#run(RELEASE_SHARD, [this.#sender.sideKey('wanted', streamKey, group)], [consumer]);
  }

  async release(lease: HeldLease): Promise<void> {
    await this.#run(RELEASE_SHARD, [leaseKey(this.#sender, lease)], [leaseText(lease)]);
  }

  async takeOver(lease: HeldLease, { after, count, minIdle = 0 }: TakeOverRequest): Promise<TakenOver | undefined> {
    const { consumer, group } = lease;
    const first = after === undefined ? '-' : nextEntryId(after);
    if (first === undefined) return { taken: [], next: undefined };
    const args = [leaseText(lease), group, consumer, first, count, minIdle];
    const reply = await this.#run(TAKE_OVER_SHARD, this.#ackKeys(lease), args);
    if (!Array.isArray(reply)) return undefined;
    const taken: Array<{ id: string; deliveryCount: number }> = [];
    for (let at = 1; at < reply.length; at += 2) {
      taken.push({ id: String(reply[at]), deliveryCount: Number(reply[at + 1]) });
    }
    return { taken, next: String(reply[0]) || undefined };
  }

  async ack(lease: HeldLease, ids: readonly string[]): Promise<number | undefined> {
    const args = [leaseText(lease), lease.group, ...ids];
    const acknowledged = Number(await this.#run(ACK_OWNED, this.#ackKeys(lease), args));
    return acknowledged < 0 ? undefined : acknowledged;
  }

  #ackKeys(lease: HeldLease): readonly [string, string] {
    return [this.#sender.key(lease.streamKey), leaseKey(this.#sender, lease)];
  }

  #leaseKeys(shard: GroupShard): readonly [string, string, string] {
    const { streamKey, group } = shard;
    const keyOf = (kind: 'generation' | 'wanted'): string => this.#sender.sideKey(kind, streamKey, group);
    return [leaseKey(this.#sender, shard), keyOf('generation'), keyOf('wanted')];
  }

  #memberKeys(streamKey: string, group: string): readonly [string, string] {
    return [this.#sender.sideKey('members', streamKey, group), this.#sender.sideKey('shares', streamKey, group)];
  }

  async #run(script: Script, keys: readonly [string, ...string[]], args: readonly CommandArgument[]): Promise<unknown> {
    const scripted = await this.#sender.run(script, keys, args);
    if (scripted) return scripted.reply;
    throw scriptsMissing();
  }
}

export function leaseKey(sender: CommandSender, { streamKey, group }: GroupShard): string {
  return sender.sideKey('lease', streamKey, group);
}

/** What the lease key of a shard has as its value. */
export function leaseText({ consumer, generation }: Pick<HeldLease, 'consumer' | 'generation'>): string {
  return `${consumer}:${generation}`;
}

export function scriptsMissing(): UnsupportedOperationError {
  return new UnsupportedOperationError(
    "shardOwnership 'owned'",
    'needs scripts (EVAL, EVALSHA), which are not permitted here',
  );
}

/** The name of a consumer may have colons. */
function parseLease(lease: string): { consumer: string; generation: bigint } {
  const separator = lease.lastIndexOf(':');
  return { consumer: lease.slice(0, separator), generation: BigInt(lease.slice(separator + 1)) };
}
