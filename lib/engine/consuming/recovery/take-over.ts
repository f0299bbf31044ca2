import type { OwnershipCommands, TakeOverRequest } from '../../../redis/commands/shard-owners.js';
import type { Partition } from '../partition.js';
import type { Claims } from './claims.js';
import type { ClaimedEntries, IdleClaimRequest, IdleClaims } from './idle-claimer.js';

/**
 * Takes over, in shards that this consumer owns, what is pending for anyone. The server checks the lease: a command of a former owner
 * that arrives late takes nothing.
 */
export class TakeOver implements IdleClaims {
  readonly #ownership: Pick<OwnershipCommands, 'takeOver'>;
  readonly #claims: Pick<Claims, 'inherit'>;

  constructor(ownership: Pick<OwnershipCommands, 'takeOver'>, claims: Pick<Claims, 'inherit'>) {
    this.#ownership = ownership;
    this.#claims = claims;
  }

  /** One page, in the order of the stream. Undefined when the lease is lost, which ends it here too. */
  async page(partition: Partition, request: TakeOverRequest): Promise<ClaimedEntries | undefined> {
    const { lease } = partition;
    if (!lease?.isValid) return undefined;
    const found = await this.#ownership.takeOver(lease, request);
    if (!found) {
      lease.end();
      return undefined;
    }
    const wanted = found.taken.filter(({ id }) => !partition.owned.has(id));
    return { entries: await this.#claims.inherit(partition, wanted), next: found.next };
  }

  async claimIdle(partition: Partition, request: IdleClaimRequest): Promise<ClaimedEntries> {
    return (await this.page(partition, request)) ?? { entries: [], next: undefined };
  }
}
