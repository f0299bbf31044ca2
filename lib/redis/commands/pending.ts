import { CLAIM_OWN } from '../scripts/claim-own.js';
import { RENEW_LEASES } from '../scripts/renew-leases.js';
import { RESTORE_PENDING } from '../scripts/restore-pending.js';
import { SET_IDLE } from '../scripts/set-idle.js';
import type { Command } from '../wire/resp-writer.js';
import { ClaimStrategies } from './claim-strategies.js';
import type { ThreadEntries, ThreadLease } from '../connection/renewal-thread.js';
import type { CommandSender } from './command-sender.js';
import { nextEntryId } from './entry-id.js';
import type {
  ClaimRequest,
  ClaimedPage,
  PendingCommands,
  PendingEntry,
  PendingRange,
  RestoredEntries,
  TakenPage,
} from './stream-commands.js';
import { collectClaims, parsePending, throwFirst } from './replies.js';

/** XACK, XPENDING and every kind of XCLAIM. */
export class RedisPendingCommands implements PendingCommands {
  readonly #sender: CommandSender;
  readonly #strategies: ClaimStrategies;

  constructor(sender: CommandSender) {
    this.#sender = sender;
    this.#strategies = new ClaimStrategies(sender, this);
  }

  async ack(streamKey: string, group: string, ids: readonly string[]): Promise<number> {
    const key = this.#sender.key(streamKey);
    return Number(await this.#sender.text(key, ['XACK', key, group, ...ids]));
  }

  async pending(streamKey: string, group: string, range: PendingRange): Promise<PendingEntry[]> {
    // Exclusive ranges and the IDLE filter came with Redis 6.2; the next id and a filter of our own do the same on 6.0.
    const start = range.after === undefined ? '-' : nextEntryId(range.after);
    if (start === undefined) return [];
    const key = this.#sender.key(streamKey);
    const consumer = range.consumer === undefined ? [] : [range.consumer];
    return parsePending(await this.#sender.text(key, ['XPENDING', key, group, start, '+', range.count, ...consumer]));
  }

  async isPending(streamKey: string, group: string, id: string): Promise<boolean> {
    const key = this.#sender.key(streamKey);
    const reply = await this.#sender.text(key, ['XPENDING', key, group, id, id, 1]);
    return parsePending(reply).length > 0;
  }

  async claimOwn(
    streamKey: string,
    group: string,
    consumer: string,
    pending: readonly PendingEntry[],
    isRedelivery: boolean,
  ): Promise<ClaimedPage> {
    if (pending.length === 0) return { entries: [], deleted: [] };
    const counts = pending.map((entry) => entry.deliveryCount + (isRedelivery ? 1 : 0));
    const scripted = await this.#sender.run(
      CLAIM_OWN,
      this.#sender.key(streamKey),
      [group, consumer, ...pending.flatMap((entry, index) => [entry.id, counts[index] as number])],
      'buffer',
    );
    if (scripted) return collectClaims(pending, counts, scripted.reply as unknown[]);
    const key = this.#sender.key(streamKey);
    const countOf = new Map(pending.map(({ id }, index) => [id, counts[index] as number]));
    const ours = await this.#stillOurs(streamKey, group, consumer, [...countOf.keys()]);
    const oursCounts = ours.map(({ id }) => countOf.get(id) as number);
    const replies = await this.#sender.pipeline(
      key,
      // The idle time that was just seen guards the claim: a consumer that takes the entry in between resets it.
      ours.map(({ id, idle }, index): Command => {
        return ['XCLAIM', key, group, consumer, idle, id, 'RETRYCOUNT', oursCounts[index] as number];
      }),
      'buffer',
    );
    return collectClaims(ours, oursCounts, replies);
  }

  claimIdle(request: ClaimRequest): Promise<ClaimedPage> {
    return this.#strategies.claim(request);
  }

  takeIdle(request: ClaimRequest): Promise<TakenPage> {
    return this.#strategies.take(request);
  }

  async keepAlive(streamKey: string, group: string, consumer: string, ids: readonly string[]): Promise<string[]> {
    if (ids.length === 0) return [];
    const scripted = await this.#sender.run(RENEW_LEASES, this.#sender.key(streamKey), [group, consumer, ...ids]);
    if (scripted) return scripted.reply as string[];
    const ours = await this.#stillOurs(streamKey, group, consumer, ids);
    await this.#claimJustId(streamKey, group, consumer, ours, 0);
    return ours.map(({ id }) => id);
  }

  leaseOf(streamKey: string, entries: ThreadEntries): ThreadLease {
    return {
      key: this.#sender.key(streamKey),
      script: RENEW_LEASES,
      args: [entries.group, entries.consumer],
      entries,
      isWithoutScripts: !this.#sender.features.has('scripts'),
    };
  }

  async setIdle(
    streamKey: string,
    group: string,
    consumer: string,
    entries: ReadonlyArray<{ id: string; deliveryCount?: number }>,
    idle: number,
  ): Promise<void> {
    if (entries.length === 0) return;
    const args = entries.flatMap(({ id, deliveryCount }) => [id, deliveryCount ?? -1]);
    const scripted = await this.#sender.run(SET_IDLE, this.#sender.key(streamKey), [
      group,
      consumer,
      Math.round(idle),
      ...args,
    ]);
    if (scripted) return;
    const counts = new Map(entries.map(({ id, deliveryCount }) => [id, deliveryCount]));
    const ours = await this.#stillOurs(streamKey, group, consumer, [...counts.keys()]);
    await this.#claimJustId(streamKey, group, consumer, ours, idle, counts);
  }

  async restore(
    streamKey: string,
    group: string,
    consumer: string,
    entries: ReadonlyArray<Pick<PendingEntry, 'id' | 'deliveryCount'>>,
  ): Promise<RestoredEntries> {
    if (entries.length === 0) return { restored: [], gone: [] };
    const key = this.#sender.key(streamKey);
    const args = entries.flatMap(({ id, deliveryCount }) => [id, deliveryCount]);
    const scripted = await this.#sender.run(RESTORE_PENDING, key, [group, consumer, ...args]);
    if (scripted) {
      const [restored, gone] = scripted.reply as [string[], string[]];
      return { restored, gone };
    }
    const found = await this.#outcomes(key, entries, ({ id }) => ['XPENDING', key, group, id, id, 1]);
    const free = entries.filter((_, index) => parsePending(found[index]).length === 0);
    const stored = await this.#outcomes(key, free, ({ id }) => ['XRANGE', key, id, id, 'COUNT', 1]);
    const isStored = (_: unknown, index: number): boolean => (stored[index] as unknown[]).length > 0;
    const restored = free.filter(isStored);
    await this.#outcomes(key, restored, ({ id, deliveryCount }) => {
      const options = ['IDLE', 0, 'RETRYCOUNT', deliveryCount, 'FORCE', 'JUSTID'];
      return ['XCLAIM', key, group, consumer, 0, id, ...options];
    });
    const ids = (of: typeof free): string[] => of.map(({ id }) => id);
    return { restored: ids(restored), gone: ids(free.filter((entry, index) => !isStored(entry, index))) };
  }

  async forcePending(
    streamKey: string,
    group: string,
    consumer: string,
    ids: readonly string[],
    idle: number,
  ): Promise<void> {
    if (ids.length === 0) return;
    const options = ['IDLE', Math.round(idle), 'RETRYCOUNT', 0, 'FORCE', 'JUSTID'];
    const key = this.#sender.key(streamKey);
    await this.#sender.text(key, ['XCLAIM', key, group, consumer, 0, ...ids, ...options]);
  }

  /** The replies to one command for each entry. @throws the first error among them */
  async #outcomes<T>(key: string, entries: readonly T[], commandOf: (entry: T) => Command): Promise<unknown[]> {
    const replies = await this.#sender.pipeline(key, entries.map(commandOf));
    throwFirst(replies);
    return replies;
  }

  /** Does for servers that do not permit scripts what {@link RENEW_LEASES} does: returns the rows of XPENDING, with their idle times. */
  async #stillOurs(
    streamKey: string,
    group: string,
    consumer: string,
    ids: readonly string[],
  ): Promise<PendingEntry[]> {
    const key = this.#sender.key(streamKey);
    // An entry counts as lost only when the server has said that; not when the question failed.
    const replies = await this.#outcomes(key, ids, (id) => ['XPENDING', key, group, id, id, 1, consumer]);
    return replies.flatMap((reply) => parsePending(reply));
  }

  async #claimJustId(
    streamKey: string,
    group: string,
    consumer: string,
    entries: readonly PendingEntry[],
    idle: number,
    counts?: ReadonlyMap<string, number | undefined>,
  ): Promise<void> {
    const key = this.#sender.key(streamKey);
    const replies = await this.#sender.pipeline(
      key,
      entries.map((entry): Command => {
        const count = counts?.get(entry.id);
        const retryCount = count === undefined ? [] : ['RETRYCOUNT', count];
        return [
          'XCLAIM',
          key,
          group,
          consumer,
          entry.idle,
          entry.id,
          'IDLE',
          Math.round(idle),
          ...retryCount,
          'JUSTID',
        ];
      }),
    );
    throwFirst(replies);
  }
}
