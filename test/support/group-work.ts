import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { LoadBalancedOptions, RedisStreamer, StreamConsumer, StreamProducer } from '../../lib/index.js';
import { drain } from './fault-bench.js';
import { Ledger } from './ledger.js';
import { until } from './until.js';

export const GROUP = 'g';

/** What became of a load. */
export interface Outcome {
  /** Confirmed and never handled. */
  readonly lost: readonly string[];
  /** How often messages were handled beyond their first time; those that stand in the stream twice are counted too. */
  readonly duplicates: number;
  /** Entries that were handled more than once; a payload that was appended twice is two entries. */
  readonly handledAgain: readonly string[];
}

interface Handled {
  readonly streamKey: string;
  readonly id: string;
  text(): string;
}

/** How many handlers of one consumer run at the same time, and how long each takes; one in fifty longer than a reconnect. */
const HANDLERS = 16;
const HANDLING_TIME = 2;
const LONG_HANDLING_TIME = 150;
const BATCH_SIZE = 50;
/** What a consumer may have been given: what is in handlers, and what waits for them. */
export const MOST_IN_HAND = HANDLERS + 2 * BATCH_SIZE;
const SETTLE_LIMIT = 15_000;
const NOTHING: ReadonlySet<string> = new Set();

/** Consumers of one group that handle and acknowledge all the time, and the ledger of what was sent and handled. */
export class GroupWork {
  readonly ledger = new Ledger();
  readonly #times = new Map<string, number>();
  #gate: ReturnType<typeof withResolvers<void>> | undefined;

  /** One more consumer of the group. A stream that fails is reported to `onFailure`, and the others go on. */
  async join(
    streamer: RedisStreamer,
    streamKeys: string | readonly string[],
    options: Partial<LoadBalancedOptions> = {},
    onFailure?: (error: unknown) => void,
  ): Promise<StreamConsumer> {
    const consumer = await streamer.createConsumer(streamKeys, {
      mode: 'load-balanced',
      group: GROUP,
      mkStream: true,
      autoStreamReset: 'earliest',
      autoCommit: 'rolling',
      autoCommitInterval: 20,
      batchSize: BATCH_SIZE,
      ...options,
    } as LoadBalancedOptions & { autoCommit: 'rolling' });
    let begun = 0;
    const run = async (): Promise<void> => {
      try {
        await drain(consumer, async (message) => {
          await this.#gate?.promise;
          begun += 1;
          await pause(begun % 50 === 0 ? LONG_HANDLING_TIME : HANDLING_TIME);
          this.handled(message);
          consumer.ack(message);
        });
      } catch (error) {
        if (!onFailure) throw error;
        onFailure(error);
        await run();
      }
    };
    for (let handler = 0; handler < HANDLERS; handler += 1) void run();
    return consumer;
  }

  /** What {@link useLoad} sends. */
  sender(producer: StreamProducer, prefix = 'm'): (n: number) => Promise<void> {
    return (n) => this.ledger.sent(`${prefix}-${n}`, producer.send(`${prefix}-${n}`));
  }

  handled(message: Handled): void {
    const entry = `${message.streamKey} ${message.id} ${message.text()}`;
    this.#times.set(entry, (this.#times.get(entry) ?? 0) + 1);
    this.ledger.handledMessage(message);
  }

  /** Handlers wait, so that messages pile up in consumers and in the stream. */
  hold(): void {
    this.#gate ??= withResolvers<void>();
  }

  goOn(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  async more(count: number): Promise<void> {
    const goal = this.ledger.handled + count;
    await until(`${goal} messages are handled`, () => this.ledger.handled >= goal, 20_000);
  }

  /**
   * Waits until everything that was confirmed is handled, but for what may be missing, and until the group is through with
   * the streams: what stands there twice is handled twice.
   */
  async settled(redis: Redis, streamKeys: string | readonly string[], mayBeMissing = NOTHING): Promise<Outcome> {
    const lost = (): string[] => this.ledger.account().lost.filter((payload) => !mayBeMissing.has(payload));
    const deadline = Date.now() + SETTLE_LIMIT;
    while (lost().length > 0 && Date.now() < deadline) await pause(50);
    if (lost().length === 0) {
      for (const key of [streamKeys].flat()) {
        await until(`the group is through with '${key}'`, () => isThrough(redis, key), SETTLE_LIMIT);
      }
    }
    return {
      lost: lost(),
      duplicates: this.ledger.repeated,
      handledAgain: [...this.#times].flatMap(([entry, count]) => (count > 1 ? [entry] : [])),
    };
  }

  /** What the tally of a test wants to know. */
  counts(faults: number, { lost, duplicates }: Outcome) {
    const { confirmed: sends, handled } = this.ledger;
    return { faults, sends, handled, duplicates, lost: lost.length };
  }
}

/** Whether everything in the stream was given to the group, and is acknowledged. */
async function isThrough(redis: Redis, streamKey: string): Promise<boolean> {
  try {
    const [last] = await redis.xrevrange(streamKey, '+', '-', 'COUNT', 1);
    const given = lastGiven(await redis.xinfo('GROUPS', streamKey));
    return (!last || last[0] === given) && (await redis.xpending(streamKey, GROUP))[0] === 0;
  } catch {
    // It is about to be made again.
    return false;
  }
}

/** The id of the last entry that the group was given, from XINFO GROUPS; undefined when there is no such group. */
export function lastGiven(groups: unknown): string | undefined {
  if (!Array.isArray(groups)) return undefined;
  const group = (groups as Array<Array<string | number>>).find((fields) => fields[1] === GROUP);
  return group && String(group[group.indexOf('last-delivered-id') + 1]);
}

export interface StoredEntry {
  readonly id: string;
  readonly payload: string;
}

export async function storedIn(redis: Redis, streamKey: string): Promise<StoredEntry[]> {
  const entries = await redis.xrange(streamKey, '-', '+');
  return entries.map(([id, fields]) => ({ id, payload: fields[fields.indexOf('msg') + 1] as string }));
}

/** Payloads that stand in a stream more than once. */
export function appendedAgain(entries: readonly StoredEntry[]): string[] {
  const seen = new Set<string>();
  return entries.flatMap(({ payload }) => (seen.has(payload) ? [payload] : (seen.add(payload), [])));
}
