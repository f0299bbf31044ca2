import type { CommandArgument, CommandSender, PipelinedCommand } from './command-sender.js';
import { nextEntryId } from './entry-id.js';
import { ClaimStrategies } from './claim-strategies.js';
import { CLAIM_OWN, KEEP_ALIVE, SET_IDLE } from '../scripts/pending-scripts.js';
import type { ClaimRequest, ClaimedPage, PendingCommands, PendingEntry, PendingRange } from './stream-commands.js';
import { collectClaims, parsePending } from './replies.js';

/** XACK, XPENDING and every kind of XCLAIM. */
export class RedisPendingCommands implements PendingCommands {
  readonly #sender: CommandSender;
  readonly #ladder: ClaimStrategies;

  constructor(sender: CommandSender) {
    this.#sender = sender;
    this.#ladder = new ClaimStrategies(sender, this);
  }

  async ack(streamKey: string, group: string, ids: readonly string[]): Promise<number> {
    return Number(await this.#sender.text('xack', [this.#sender.key(streamKey), group, ...ids]));
  }

  async pending(streamKey: string, group: string, range: PendingRange): Promise<PendingEntry[]> {
    // Exclusive ranges and the IDLE filter came with Redis 6.2; the next id and a filter of our own do the same on 6.0.
    const start = range.after === undefined ? '-' : nextEntryId(range.after);
    if (start === undefined) return [];
    const args: CommandArgument[] = [this.#sender.key(streamKey), group, start, '+', range.count];
    if (range.consumer !== undefined) args.push(range.consumer);
    return parsePending(await this.#sender.text('xpending', args));
  }

  async isPending(streamKey: string, group: string, id: string): Promise<boolean> {
    const reply = await this.#sender.text('xpending', [this.#sender.key(streamKey), group, id, id, 1]);
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
      null,
    );
    if (scripted) return collectClaims(pending, counts, scripted.reply as unknown[]);
    const key = this.#sender.key(streamKey);
    const countOf = new Map(pending.map(({ id }, index) => [id, counts[index] as number]));
    const ours = await this.#stillOurs(streamKey, group, consumer, [...countOf.keys()]);
    const oursCounts = ours.map(({ id }) => countOf.get(id) as number);
    const replies = await this.#sender.pipeline(
      // The idle time just seen guards the claim: whoever takes the entry meanwhile resets it.
      ours.map(({ id, idle }, index): PipelinedCommand => {
        return ['xclaim', key, group, consumer, idle, id, 'RETRYCOUNT', oursCounts[index] as number];
      }),
      null,
    );
    return collectClaims(ours, oursCounts, replies);
  }

  claimIdle(request: ClaimRequest): Promise<ClaimedPage> {
    return this.#ladder.claim(request);
  }

  async keepAlive(streamKey: string, group: string, consumer: string, ids: readonly string[]): Promise<string[]> {
    if (ids.length === 0) return [];
    const scripted = await this.#sender.run(KEEP_ALIVE, this.#sender.key(streamKey), [group, consumer, ...ids]);
    if (scripted) return scripted.reply as string[];
    const ours = await this.#stillOurs(streamKey, group, consumer, ids);
    await this.#claimJustId(streamKey, group, consumer, ours, 0);
    return ours.map(({ id }) => id);
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

  async forcePending(
    streamKey: string,
    group: string,
    consumer: string,
    ids: readonly string[],
    idle: number,
  ): Promise<void> {
    if (ids.length === 0) return;
    const options = ['IDLE', Math.round(idle), 'RETRYCOUNT', 0, 'FORCE', 'JUSTID'];
    await this.#sender.text('xclaim', [this.#sender.key(streamKey), group, consumer, 0, ...ids, ...options]);
  }

  /** The way of {@link KEEP_ALIVE} for servers on which scripts are not permitted: what XPENDING shows, with its idle time. */
  async #stillOurs(
    streamKey: string,
    group: string,
    consumer: string,
    ids: readonly string[],
  ): Promise<PendingEntry[]> {
    const key = this.#sender.key(streamKey);
    const replies = await this.#sender.pipeline(
      ids.map((id) => ['xpending', key, group, id, id, 1, consumer] as const),
    );
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
    await this.#sender.pipeline(
      entries.map((entry): PipelinedCommand => {
        const count = counts?.get(entry.id);
        const retryCount = count === undefined ? [] : ['RETRYCOUNT', count];
        return [
          'xclaim',
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
  }
}
