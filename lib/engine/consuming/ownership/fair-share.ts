import type { GroupShares } from '../../../redis/commands/shard-owners.js';

/** What a member knows when it decides how many more shards of a stream it wants. */
export interface ShareView extends GroupShares {
  /** How many shards the stream has. */
  readonly shards: number;
  /** How many of them the member owns. */
  readonly owned: number;
  /** How many shards of all streams it owns. */
  readonly load: number;
}

/** How many shards a member wants: of those without an owner, and of those that others own. */
export interface WantedShards {
  readonly free: number;
  readonly fromOthers: number;
}

const NONE: WantedShards = Object.freeze({ free: 0, fromOthers: 0 });

/** The least that each member owns when the shards are spread evenly. */
export function smallestShare(shards: number, members: number): number {
  return Math.floor(shards / members);
}

/** How many leases all members of a group together read in a millisecond. */
const LEASES_READ = 30;

/**
 * Milliseconds after which a member reads all leases of a stream again. Without it, when a shard becomes free in a group of 1,000
 * members with 1,000 shards, each of them would read all leases every second, which is more than a server can do.
 */
export function leaseScanInterval(shards: number, members: number): number {
  return (shards * members) / LEASES_READ;
}

/**
 * The rule by which the members of a group share the shards of a stream without a coordinator. In the end each owns the smallest
 * share or one more: of 12 shards, five members own 3, 3, 2, 2 and 2. A member that has less than the smallest share wants what it
 * lacks. One that has just that wants one more, if fewer members than possible have one more, or if one has more than that.
 *
 * Of several streams, the members with one more could be the same for all. Therefore a member also wants one from a member that
 * owns at least two more shards of all streams together.
 *
 * Members take shards without an owner, else they ask owners. An owner hands over only what is above its smallest share, so no move
 * leads away from an even spread, and what is spread evenly does not move.
 */
export function wantedShards({ shards, owned, load, members, above, most, loadOfMost }: ShareView): WantedShards {
  const least = smallestShare(shards, members);
  if (owned < least) return { free: least - owned, fromOthers: least - owned };
  const withOneMore = shards % members;
  if (owned > least || withOneMore === 0) return NONE;
  if (above < withOneMore) return { free: 1, fromOthers: most > least + 1 ? 1 : 0 };
  return { free: 0, fromOthers: most > least + 1 || loadOfMost >= load + 2 ? 1 : 0 };
}
