import { setTimeout as pause } from 'node:timers/promises';
import { withResolvers } from '../../lib/shared/deferred.js';
import type { LoadBalancedOptions, RedisStreamer, StreamConsumer, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import { drain } from './fault-bench.js';
import { Ledger } from './ledger.js';
import { until } from './until.js';

export const GROUP = 'g';

/** The outcome of a load. */
export interface Outcome {
  /** Messages that were confirmed and never handled. */
  readonly lost: readonly string[];
  /** Number of handlings beyond the first of each message, including those of messages that were appended twice. */
  readonly duplicates: number;
  /** Entries that were handled more than once; a payload that was appended twice has two entries. */
  readonly handledAgain: readonly string[];
}

interface Handled {
  readonly streamKey: string;
  readonly id: string;
  text(): string;
}

/** Concurrent handlers of one consumer and milliseconds that each takes; one in fifty takes longer than a reconnect. */
const HANDLERS = 16;
const HANDLING_TIME = 2;
const LONG_HANDLING_TIME = 150;
const BATCH_SIZE = 50;
/** The most messages that a consumer may own: those in handlers plus those in its buffer. */
export const MAX_IN_FLIGHT = HANDLERS + 2 * BATCH_SIZE;
const SETTLE_LIMIT = 15_000;
const NOTHING: ReadonlySet<string> = new Set();

/** Consumers of one group that handle and acknowledge continuously, and the ledger of sent and handled messages. */
export class GroupWork {
  readonly ledger = new Ledger();
  readonly #times = new Map<string, number>();
  #gate: ReturnType<typeof withResolvers<void>> | undefined;

  /**
   * Adds a consumer to the group. `onFailure` receives the failure of a stream; the consumer continues with its other
   * streams.
   */
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

  /** Returns the send function for {@link useLoad}. */
  sender(producer: StreamProducer, prefix = 'm'): (n: number) => Promise<void> {
    return (n) => this.ledger.sent(`${prefix}-${n}`, producer.send(`${prefix}-${n}`));
  }

  /** The same for several streams in turn; the payload `m-4` of three streams goes to the second one. */
  senderTo(producer: StreamProducer, streamKeys: readonly string[], prefix = 'm'): (n: number) => Promise<void> {
    return (n) => {
      const streamKey = streamKeys[n % streamKeys.length] as string;
      return this.ledger.sent(`${prefix}-${n}`, producer.sendTo(streamKey, `${prefix}-${n}`));
    };
  }

  handled(message: Handled): void {
    const entry = `${message.streamKey} ${message.id} ${message.text()}`;
    this.#times.set(entry, (this.#times.get(entry) ?? 0) + 1);
    this.ledger.handledMessage(message);
  }

  /** Makes handlers wait, so that messages accumulate in consumers and in the stream. */
  holdHandlers(): void {
    this.#gate ??= withResolvers<void>();
  }

  releaseHandlers(): void {
    this.#gate?.resolve();
    this.#gate = undefined;
  }

  async moreHandled(count: number): Promise<void> {
    const goal = this.ledger.handled + count;
    await until(`${goal} messages are handled`, () => this.ledger.handled >= goal, 20_000);
  }

  /**
   * Waits until every confirmed message is handled, except those that may be missing, and until the group has
   * acknowledged everything in the streams: a message that was appended twice is handled twice.
   */
  async settled(redis: RedisClient, streamKeys: string | readonly string[], mayBeMissing = NOTHING): Promise<Outcome> {
    const lost = (): string[] => this.ledger.account().lost.filter((payload) => !mayBeMissing.has(payload));
    const deadline = Date.now() + SETTLE_LIMIT;
    while (lost().length > 0 && Date.now() < deadline) await pause(50);
    if (lost().length === 0) {
      for (const key of [streamKeys].flat()) {
        await until(`the group has acknowledged all of '${key}'`, () => isFinished(redis, key), SETTLE_LIMIT);
      }
    }
    return {
      lost: lost(),
      duplicates: this.ledger.repeated,
      handledAgain: [...this.#times].flatMap(([entry, count]) => (count > 1 ? [entry] : [])),
    };
  }

  /** The counts for the tally of a test. */
  counts(faults: number, { lost, duplicates }: Outcome) {
    const { confirmed: sends, handled } = this.ledger;
    return { faults, sends, handled, duplicates, lost: lost.length };
  }
}

/** Whether every entry of the stream was delivered to the group and is acknowledged. */
async function isFinished(redis: RedisClient, streamKey: string): Promise<boolean> {
  try {
    const [last] = await redis.xrevrange(streamKey, '+', '-', 'COUNT', 1);
    const given = lastDeliveredId(await redis.xinfo('GROUPS', streamKey));
    return (!last || last[0] === given) && (await redis.xpending(streamKey, GROUP))[0] === 0;
  } catch {
    // The stream or the group is missing; the consumers are about to recreate it.
    return false;
  }
}

/** The id of the last entry delivered to the group, from XINFO GROUPS; undefined if the group does not exist. */
export function lastDeliveredId(groups: unknown): string | undefined {
  if (!Array.isArray(groups)) return undefined;
  const group = (groups as Array<Array<string | number>>).find((fields) => fields[1] === GROUP);
  return group && String(group[group.indexOf('last-delivered-id') + 1]);
}

export interface StoredEntry {
  readonly id: string;
  readonly payload: string;
}

export async function storedEntries(
  redis: RedisClient,
  streamKeys: string | readonly string[],
): Promise<StoredEntry[]> {
  const pages = await Promise.all([streamKeys].flat().map((streamKey) => redis.xrange(streamKey, '-', '+')));
  return pages.flat().map(([id, fields]) => ({ id, payload: fields[fields.indexOf('msg') + 1] as string }));
}

/** Payloads that a stream has more than once. */
export function duplicatePayloads(entries: readonly StoredEntry[]): string[] {
  const seen = new Set<string>();
  return entries.flatMap(({ payload }) => (seen.has(payload) ? [payload] : (seen.add(payload), [])));
}
