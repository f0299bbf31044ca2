import type { Command } from '../wire/resp-writer.js';
import { entriesOf } from '../wire/stream-entry.js';
import type { CommandSender } from './command-sender.js';
import { isEntryId } from './entry-id.js';
import { collectClaims, parsePending, throwFirst } from './replies.js';
import type { ClaimRequest, ClaimedPage, PendingCommands, PendingEntry, TakenPage } from './stream-commands.js';

const ID_AT_END = '0-0';
/** Where a walk through the whole list begins that comes after XREADGROUP … CLAIM. */
const FIRST_ID = '0-1';

/**
 * Takes over idle entries by the best strategy that the server has. Each is tried once and remembered when it is missing:
 *
 * 1. XREADGROUP … CLAIM (Redis 8.4): returns delivery counts too, and may return new entries behind the claimed ones. It has
 *    no cursor and skips entries that were deleted, so one walk by the next strategy follows, which finds those.
 * 2. XAUTOCLAIM (Redis 6.2, useful from 7.0 on, where it names the entries that were deleted), then XPENDING for the counts.
 * 3. XPENDING, then XCLAIM of the entries that have been idle long enough.
 *
 * XREADGROUP … CLAIM always raises the delivery count, so {@link take} has the other two only.
 */
export class ClaimStrategies {
  readonly #sender: CommandSender;
  readonly #pending: Pick<PendingCommands, 'pending'>;

  constructor(sender: CommandSender, pending: Pick<PendingCommands, 'pending'>) {
    this.#sender = sender;
    this.#pending = pending;
  }

  async claim(request: ClaimRequest): Promise<ClaimedPage> {
    const isWalk = request.after !== undefined && request.after !== ID_AT_END;
    return (
      (isWalk ? undefined : await this.#attempt('XREADGROUP CLAIM', () => this.#readClaiming(request))) ??
      (await this.#attempt('XAUTOCLAIM', () => this.#autoClaim(request))) ??
      (await this.#claimPending(request))
    );
  }

  /** Changes the owner of idle entries and nothing else. */
  async take(request: ClaimRequest): Promise<TakenPage> {
    return (await this.#attempt('XAUTOCLAIM', () => this.#autoTake(request))) ?? (await this.#takePending(request));
  }

  async #attempt<T>(feature: string, claim: () => Promise<T>): Promise<T | undefined> {
    if (!this.#sender.features.has(feature)) return undefined;
    try {
      return await claim();
    } catch (error) {
      if (!this.#sender.features.isMissing(feature, error)) throw error;
      return undefined;
    }
  }

  async #readClaiming({ streamKey, group, consumer, minIdle, count }: ClaimRequest): Promise<ClaimedPage> {
    const key = this.#sender.key(streamKey);
    const command: Command = [
      'XREADGROUP',
      'GROUP',
      group,
      consumer,
      'COUNT',
      count,
      'CLAIM',
      minIdle,
      'STREAMS',
      key,
      '>',
    ];
    const [page] = await this.#sender.pages(key, [command]);
    const entries = page?.entries ?? [];
    // Nothing more is idle when something new, or less than asked for, came back.
    const isEnd = entries.length < count || entries.some(({ deliveryCount }) => deliveryCount === 1);
    return { entries, deleted: [], next: isEnd ? FIRST_ID : ID_AT_END };
  }

  async #autoClaim({ streamKey, group, consumer, minIdle, count, after }: ClaimRequest): Promise<ClaimedPage> {
    const key = this.#sender.key(streamKey);
    const command: Command = ['XAUTOCLAIM', key, group, consumer, minIdle, after ?? '0-0', 'COUNT', count];
    const reply = await this.#sender.raw(key, command);
    const [cursor, rawEntries, rawDeleted] = reply as [Buffer, unknown, Buffer[] | undefined];
    // Redis 6.2 does not name the entries that were deleted; from the next page on the last strategy finds them.
    if (rawDeleted === undefined) this.#sender.features.forget('XAUTOCLAIM');
    const claimed = entriesOf(rawEntries);
    const counts = new Map<string, number>();
    const ids = claimed.map(({ id }) => id);
    for (const { id, deliveryCount } of await this.#oursOf(key, group, consumer, ids)) counts.set(id, deliveryCount);
    return {
      entries: claimed.flatMap((entry) => {
        const deliveryCount = counts.get(entry.id);
        return deliveryCount === undefined ? [] : { ...entry, deliveryCount };
      }),
      deleted: (rawDeleted ?? []).map((id) => id.toString('latin1')),
      next: nextOf(cursor.toString('latin1')),
    };
  }

  async #autoTake({ streamKey, group, consumer, minIdle, count, after }: ClaimRequest): Promise<TakenPage> {
    const key = this.#sender.key(streamKey);
    const command: Command = [
      'XAUTOCLAIM',
      key,
      group,
      consumer,
      minIdle,
      after ?? ID_AT_END,
      'COUNT',
      count,
      'JUSTID',
    ];
    const [cursor, ids, deleted = []] = (await this.#sender.text(key, command)) as [string, string[], string[]?];
    const taken = await this.#oursOf(key, group, consumer, ids);
    return { taken, deleted, next: nextOf(cursor) };
  }

  /**
   * The rows of entries that were claimed a moment ago, in the order of their ids. One without a row was acknowledged in between
   * by its former consumer, or claimed by another: it is not ours to hand out.
   */
  async #oursOf(key: string, group: string, consumer: string, ids: readonly string[]): Promise<PendingEntry[]> {
    const [first, last] = [ids[0], ids.at(-1)];
    if (first === undefined || last === undefined) return [];
    const rowsOf = (from: string, to: string, count: number): Command =>
      ['XPENDING', key, group, from, to, count, consumer] as const;
    const wanted = new Set(ids);
    const inRange = parsePending(await this.#sender.text(key, rowsOf(first, last, ids.length)));
    const rows = inRange.filter(({ id }) => wanted.delete(id));
    // What we have owned for longer may lie between them, and leave no place for the others.
    if (wanted.size === 0 || inRange.length < ids.length) return rows;
    const replies = await this.#sender.pipeline(
      key,
      [...wanted].map((id) => rowsOf(id, id, 1)),
    );
    throwFirst(replies);
    return [...rows, ...replies.flatMap(parsePending)];
  }

  async #takePending(request: ClaimRequest): Promise<TakenPage> {
    const { streamKey, group, consumer, minIdle } = request;
    const { idle, next } = await this.#idlePage(request);
    const key = this.#sender.key(streamKey);
    const replies = await this.#sender.pipeline(
      key,
      // Redis 6.0 keeps a count with JUSTID, too; the idle time guards against a consumer that takes the entry in between.
      idle.map(({ id }) => ['XCLAIM', key, group, consumer, minIdle, id, 'JUSTID'] as const),
    );
    throwFirst(replies);
    // An entry that was deleted may be missing in the reply although it is ours now: claimOwn settles which it is.
    return { taken: idle, deleted: [], next };
  }

  async #claimPending(request: ClaimRequest): Promise<ClaimedPage> {
    const { streamKey, group, consumer, minIdle } = request;
    const { idle, next } = await this.#idlePage(request);
    const key = this.#sender.key(streamKey);
    const replies = await this.#sender.pipeline(
      key,
      idle.map(({ id }) => ['XCLAIM', key, group, consumer, minIdle, id] as const),
      'buffer',
    );
    const counts = idle.map((entry) => entry.deliveryCount + 1);
    return { ...collectClaims(idle, counts, replies), next };
  }

  /** The entries of one page of the pending list that have been idle long enough, and where the next page begins. */
  async #idlePage({ streamKey, group, minIdle, count, after }: ClaimRequest): Promise<{
    idle: PendingEntry[];
    next: string | undefined;
  }> {
    const page = await this.#pending.pending(streamKey, group, { after, count });
    const next = page.length < count ? undefined : (page.at(-1) as PendingEntry).id;
    return { idle: page.filter((entry) => entry.idle >= minIdle), next };
  }
}

/** Undefined at the end; also for a reply that is no cursor, with which a scan could continue without end. */
function nextOf(cursor: string): string | undefined {
  return cursor === ID_AT_END || !isEntryId(cursor) ? undefined : cursor;
}
