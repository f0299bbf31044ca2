import type { Redis } from 'ioredis';

import { HEADER_PREFIX } from '../../../lib/constants.js';
import { InternalError } from '../../../lib/errors.js';
import { digestOf, nameOf } from './fuzz-message.ts';
import type { SentMessage } from './fuzz-message.ts';
import type { FuzzReader } from './fuzz-reader.ts';
import type { FuzzSender } from './fuzz-sender.ts';

const PER_PAGE = 200;
/** Violations of one kind that are listed. */
const MAX_LISTED = 20;

interface Stored {
  readonly id: string;
  readonly name: string | undefined;
  readonly digest: string;
}

/** Where a message is stored, in the order of the entries. */
interface Place {
  readonly key: string;
  readonly id: string;
  readonly position: number;
}

/** Compares what was sent, what Redis stores and what consumers handed out. */
export class FuzzJudge {
  /** By key, in the order of the ids. */
  readonly #entries = new Map<string, Stored[]>();
  readonly #byId = new Map<string, Map<string, Stored>>();
  readonly #places = new Map<string, Place[]>();
  readonly #violations: string[] = [];
  /** How often each kind of violation was found. */
  readonly #foundTimes = new Map<string, number>();

  /** Reads the streams over a connection without faults. */
  static async of(redis: Redis, keys: readonly string[]): Promise<FuzzJudge> {
    const judge = new FuzzJudge();
    for (const key of keys) await judge.#load(redis, key);
    return judge;
  }

  get entries(): number {
    return [...this.#entries.values()].reduce((sum, { length }) => sum + length, 0);
  }

  /** Entries beyond the first of each message. */
  get duplicates(): number {
    return [...this.#places.values()].reduce((sum, { length }) => sum + length - 1, 0);
  }

  /** Everything that must not be; empty when all guarantees held. */
  violations(senders: readonly FuzzSender[], readers: readonly FuzzReader[]): string[] {
    for (const sender of senders) {
      for (const message of sender.sent) if (message.name !== undefined) this.#judgeMessage(sender, message);
      this.#judgeEnqueued(sender);
      this.#judgeEmpty(sender);
      this.#judgeOrder(sender);
    }
    this.#judgeEntries(senders);
    for (const reader of readers) this.#judgeReader(reader);
    return this.#violations;
  }

  async #load(redis: Redis, key: string): Promise<void> {
    const entries: Stored[] = [];
    for (let start = '-'; ; start = `(${entries.at(-1)?.id ?? '0'}`) {
      const page = (await redis.xrangeBuffer(key, start, '+', 'COUNT', PER_PAGE)) as unknown as Array<
        [Buffer, Buffer[]]
      >;
      for (const [id, fields] of page) {
        const stored = storedOf(id.toString(), fields);
        if (stored.name !== undefined) {
          const places = this.#places.get(stored.name) ?? [];
          places.push({ key, id: stored.id, position: entries.length });
          this.#places.set(stored.name, places);
        }
        entries.push(stored);
      }
      if (page.length < PER_PAGE) break;
    }
    this.#entries.set(key, entries);
    this.#byId.set(key, new Map(entries.map((entry) => [entry.id, entry])));
  }

  #judgeMessage({ plan }: FuzzSender, message: SentMessage): void {
    const name = message.name as string;
    const places = this.#places.get(name) ?? [];
    const { outcome, key, id, error } = message;
    const what = `${plan.delivery} ${name} to '${message.streamKey}'`;
    if (error instanceof InternalError) this.#found('a send failed unexpectedly', `${what}: ${error.message}`);
    if (outcome === 'open') this.#found('a send has no outcome', what);
    if (outcome === 'confirmed' && places.length === 0) this.#found('a confirmed message is not stored', what);
    if (outcome === 'failed' && places.length > 0) {
      this.#found('a message is stored although its send failed', `${what}: ${error?.message ?? ''}`);
    }
    if (plan.delivery !== 'at-least-once' && places.length > 1) {
      this.#found('a message is stored twice', `${what}, ${outcome}: ${places.map((place) => place.id).join(', ')}`);
    }
    if (id !== undefined && !places.some((place) => place.id === id && place.key === key)) {
      this.#found('the id of a receipt is not that of the message', `${what}: ${key ?? ''} ${id}`);
    }
  }

  /** Which enqueued messages failed is unknown, their number is known. */
  #judgeEnqueued({ plan, sent, failedEnqueues }: FuzzSender): void {
    const enqueued = sent.filter(({ name, outcome }) => name !== undefined && outcome === 'unknown');
    const missing = enqueued.filter(({ name }) => !this.#places.has(name as string));
    if (missing.length > failedEnqueues) {
      this.#found('an enqueued message is missing', `${plan.name}: ${missing.length}, ${failedEnqueues} failed`);
    }
  }

  /** Messages without content differ in nothing; they can be counted. */
  #judgeEmpty({ plan, sent, failedEnqueues }: FuzzSender): void {
    if (plan.emptyKey === undefined) return;
    const empty = sent.filter(({ name }) => name === undefined);
    const least =
      empty.filter(({ outcome }) => outcome === 'confirmed' || outcome === 'unknown').length - failedEnqueues;
    const most = empty.filter(({ outcome }) => outcome !== 'failed').length;
    const stored = this.#entries.get(plan.emptyKey)?.length ?? 0;
    if (stored < least || (plan.delivery !== 'at-least-once' && stored > most)) {
      this.#found('the number of empty messages is wrong', `${plan.name}: ${stored}, not ${least} to ${most}`);
    }
    const ids = empty.flatMap(({ id }) => id ?? []);
    const known = this.#byId.get(plan.emptyKey);
    if (new Set(ids).size < ids.length || ids.some((id) => !known?.has(id))) {
      this.#found('a receipt of an empty message is wrong', plan.name);
    }
  }

  /** Of two confirmed messages of one producer in one stream, the first one sent is stored first. */
  #judgeOrder({ plan, sent }: FuzzSender): void {
    const last = new Map<string, { position: number; name: string }>();
    for (const { name, outcome } of sent) {
      const first = name === undefined ? undefined : this.#places.get(name)?.[0];
      if (name === undefined || outcome !== 'confirmed' || !first) continue;
      const before = last.get(first.key);
      if (before && first.position < before.position) {
        this.#found('messages are stored in another order', `${plan.delivery} ${before.name}, then ${name}`);
      }
      last.set(first.key, { position: first.position, name });
    }
  }

  #judgeEntries(senders: readonly FuzzSender[]): void {
    const emptyKeys = new Set(senders.map(({ plan }) => plan.emptyKey));
    const sent = new Map(senders.flatMap((sender) => sender.sent.map((message) => [message.name, message] as const)));
    const empty = digestOf('');
    for (const [key, entries] of this.#entries) {
      for (const { id, name, digest } of entries) {
        const message = sent.get(name);
        const isKnown = emptyKeys.has(key)
          ? digest === empty
          : name !== undefined && message?.digest === digest && streamOf(key, message.streamKey) === key;
        if (!isKnown) this.#found('an entry was never sent', `${key} ${id} ${name ?? ''}`);
      }
    }
  }

  #judgeReader({ name, seen, seesAll, options, errors }: FuzzReader): void {
    for (const error of errors) this.#found(`an error of ${name}`, `${error.name}: ${error.message}`);
    for (const [key, entries] of seen) {
      let before = '';
      for (const [id, { digest, times }] of entries) {
        const stored = this.#byId.get(key)?.get(id);
        if (stored?.digest !== digest) this.#found(`${name} got an entry that is not stored`, `${key} ${id}`);
        if (options.mode !== 'real-time') continue;
        if (times > 1) this.#found(`${name} got an entry twice`, `${key} ${id}`);
        if (before !== '' && !isBefore(before, id)) this.#found(`${name} got entries in another order`, `${key} ${id}`);
        before = id;
      }
    }
    if (!seesAll) return;
    for (const [key, entries] of this.#entries) {
      const missed = entries.filter(({ id }) => !seen.get(key)?.has(id));
      if (missed.length > 0) {
        this.#found(
          `${name} did not get all entries`,
          `${key}: ${missed.length} of ${entries.length}, ${missed[0]?.id ?? ''}`,
        );
      }
    }
  }

  #found(kind: string, what: string): void {
    const times = (this.#foundTimes.get(kind) ?? 0) + 1;
    this.#foundTimes.set(kind, times);
    if (times <= MAX_LISTED) this.#violations.push(`${kind}: ${what}`);
    else if (times === MAX_LISTED + 1) this.#violations.push(`${kind}: …`);
  }
}

function storedOf(id: string, fields: readonly Buffer[]): Stored {
  let payload: Buffer = Buffer.alloc(0);
  const headers: Record<string, string> = {};
  for (let at = 0; at < fields.length; at += 2) {
    const field = (fields[at] as Buffer).toString();
    const value = fields[at + 1] as Buffer;
    if (field.startsWith(HEADER_PREFIX)) headers[field.slice(HEADER_PREFIX.length)] = value.toString();
    else payload = value;
  }
  return { id, name: nameOf(payload, headers), digest: digestOf(payload, headers) };
}

/** The key itself where it is a shard of that stream. */
function streamOf(key: string, streamKey: string): string {
  return key.startsWith(`${streamKey}:`) ? key : streamKey;
}

function isBefore(first: string, second: string): boolean {
  const [firstMs = 0, firstSeq = 0] = first.split('-').map(Number);
  const [secondMs = 0, secondSeq = 0] = second.split('-').map(Number);
  return firstMs < secondMs || (firstMs === secondMs && firstSeq < secondSeq);
}
