import { setTimeout as pause } from 'node:timers/promises';
import type { Redis } from 'ioredis';

import type { Delivery, ConsumerOptions } from '../../../lib/engine/options/options.js';
import { RoundRobinSharder } from '../../../lib/engine/producing/sharder.js';
import type { RedisStreamer } from '../../../lib/engine/streamer.js';
import { RespChannel } from '../../../lib/redis/wire/resp-channel.js';
import type { FaultBench } from '../fault-bench.js';
import { until } from '../until.js';
import { FuzzJudge } from './fuzz-judge.ts';
import type { FuzzCounts } from './fuzz-link.ts';
import { ContentSource } from './fuzz-message.ts';
import type { Outcome } from './fuzz-message.ts';
import { FuzzProxy } from './fuzz-proxy.ts';
import { FuzzReader } from './fuzz-reader.ts';
import { FuzzSender } from './fuzz-sender.ts';
import { SeededRandom } from './seeded-random.ts';

export interface FuzzPlan {
  readonly seed: number;
  /** Milliseconds of faults. */
  readonly duration: number;
  /** `timeout` of the streamers whose sends wait through a stalled connection, in milliseconds. */
  readonly patience: number;
  /** Whether connections use the wire of this package, or ioredis. */
  readonly usesWire: boolean;
}

interface FuzzSends {
  readonly sends: number;
  readonly confirmed: number;
  readonly uncertain: number;
  /** Sends of which Redis has nothing, and enqueued messages that failed in any way. */
  readonly failed: number;
}

interface FuzzReads {
  readonly entries: number;
  /** Entries beyond the first of each message. */
  readonly duplicates: number;
  /** Entries that consumers handed out. */
  readonly read: number;
  /** Of these, the ones that the consumer had handed out before. */
  readonly readAgain: number;
}

export interface FuzzReport {
  /** Empty when all guarantees held. */
  readonly violations: readonly string[];
  readonly counts: FuzzSends & FuzzCounts & FuzzReads;
  /** Milliseconds, by what was waited for. */
  readonly times: Readonly<Record<string, number>>;
}

const DELIVERIES: readonly Delivery[] = ['at-least-once', 'at-most-once', 'exactly-once'];
/** `timeout` of the streamers whose sends fail while a connection is stalled; also their reply timeout. */
const IMPATIENCE = 1_500;
const PLAIN_KEYS = ['a', 'b'];
const SHARDED_KEY = 's';
const SHARDS = 3;
const MEAN_LIFE = 2_000;
const BLOCK_TIMEOUT = 400;
const READER_TIMEOUT = 5_000;
const SETTLE_LIMIT = 60_000;
/** A consumer that hands nothing out for so long, although there is something, stands still. */
const STANDSTILL = 20_000;
/** For a machine that is busy with other work. */
const SLACK = 5_000;

const EARLIEST = { autoStreamReset: 'earliest', shardDiscoveryInterval: 500 } as const;
const OF_GROUP = { ...EARLIEST, mkStream: true, autoCommitInterval: 50, batchSize: 50 } as const;
const DELAYED = { autoCommit: 'delayed', autoCommitDelay: 100 } as const;

const READERS: Readonly<Record<string, ConsumerOptions>> = {
  'real-time': { mode: 'real-time', ...EARLIEST },
  'resumable rolling': { mode: 'resumable', group: 'r-rolling', autoCommit: 'rolling', ...OF_GROUP },
  'resumable disabled': { mode: 'resumable', group: 'r-disabled', autoCommit: 'disabled', ...OF_GROUP },
  'resumable delayed': { mode: 'resumable', group: 'r-delayed', ...DELAYED, ...OF_GROUP },
  'resumable immediate': { mode: 'resumable', group: 'r-immediate', autoCommit: 'immediate', ...OF_GROUP },
  'load-balanced rolling': { mode: 'load-balanced', group: 'l-rolling', autoCommit: 'rolling', ...OF_GROUP },
  'load-balanced disabled': { mode: 'load-balanced', group: 'l-disabled', autoCommit: 'disabled', ...OF_GROUP },
  'load-balanced delayed': { mode: 'load-balanced', group: 'l-delayed', ...DELAYED, ...OF_GROUP },
  'load-balanced immediate': { mode: 'load-balanced', group: 'l-immediate', autoCommit: 'immediate', ...OF_GROUP },
};

/** Every delivery mode sends and every mode reads through a {@link FuzzProxy}; then everything is compared. */
export class FuzzRun {
  readonly #bench: FaultBench;
  readonly #plan: FuzzPlan;
  readonly #random: SeededRandom;
  readonly #senders: FuzzSender[] = [];
  readonly #readers: FuzzReader[] = [];
  readonly #streamers: RedisStreamer[] = [];
  readonly #keys = new Set([...PLAIN_KEYS, ...Array.from({ length: SHARDS }, (_, shard) => `${SHARDED_KEY}:${shard}`)]);
  readonly #violations: string[] = [];
  readonly #times: Record<string, number> = {};

  constructor(bench: FaultBench, plan: FuzzPlan) {
    this.#bench = bench;
    this.#plan = plan;
    this.#random = new SeededRandom(plan.seed);
  }

  async run(): Promise<FuzzReport> {
    const { duration, usesWire } = this.#plan;
    const server = await this.#bench.server({ args: ['--save', '', '--appendonly', 'no'] });
    const redis = this.#bench.admin(server.url);
    const rules = {
      meanLife: MEAN_LIFE,
      replies: usesWire ? 'framing' : 'types',
      // Later, a read that the server executes for a lost connection could come after the consumer has looked for its entries.
      maxLateness: BLOCK_TIMEOUT,
    } as const;
    const proxy = await FuzzProxy.start(server.port, this.#random.fork('proxy'), rules);
    this.#bench.endLater(() => proxy.stop());
    await this.#addSenders(proxy.url);
    await this.#addReaders(proxy.url);

    proxy.unleash();
    for (const { start } of [...this.#readers, ...this.#senders].map((part) => ({ start: () => part.start() })))
      start();
    await pause(duration);
    await this.#within('every send has an outcome', Promise.all(this.#senders.map((sender) => sender.stop())));
    proxy.calm();
    await this.#until('both peers of a corrupted connection have noticed', () => proxy.unnoticed === 0);

    const judge = await FuzzJudge.of(redis, [...this.#keys]);
    await this.#finishReading(redis, judge);
    this.#violations.push(...judge.violations(this.#senders, this.#readers));
    this.#judgeTimes();
    this.#judgeConnections();
    await this.#within('everything has ended', this.#end());
    await this.#until('no connection is left', () => proxy.open === 0);
    const counts = { ...this.#countSends(), ...proxy.counts, ...this.#countReads(judge) };
    return { violations: this.#violations, counts, times: this.#times };
  }

  #countSends(): FuzzSends {
    const sent = this.#senders.flatMap((sender) => sender.sent);
    const countOf = (outcome: Outcome): number => sent.filter((message) => message.outcome === outcome).length;
    const failedEnqueues = this.#senders.reduce((sum, sender) => sum + sender.failedEnqueues, 0);
    return {
      sends: sent.length,
      confirmed: countOf('confirmed') + countOf('unknown') - failedEnqueues,
      uncertain: countOf('uncertain'),
      failed: countOf('failed') + failedEnqueues,
    };
  }

  #countReads({ entries, duplicates }: FuzzJudge): FuzzReads {
    const read = this.#readers.reduce((sum, reader) => sum + reader.count, 0);
    const distinct = this.#readers.reduce((sum, reader) => sum + reader.distinct, 0);
    return { entries, duplicates, read, readAgain: read - distinct };
  }

  async #addSenders(url: string): Promise<void> {
    const contents = new ContentSource(this.#random.fork('contents'));
    for (const delivery of DELIVERIES) {
      for (const timeout of [IMPATIENCE, this.#plan.patience]) {
        const streamer = await this.#streamer(url, timeout);
        for (const isSharded of [false, true]) {
          const name = `${delivery}-${timeout}${isSharded ? '-sharded' : ''}`;
          const sharder = isSharded ? { sharder: new RoundRobinSharder(SHARDS) } : {};
          const plan = {
            name,
            delivery,
            producer: await streamer.createGenericProducer({ delivery, maxBatch: 100, ...sharder }),
            isSharded,
            streamKeys: isSharded ? [SHARDED_KEY] : PLAIN_KEYS,
            timedKey: isSharded ? undefined : `timed-${name}`,
            emptyKey: isSharded ? undefined : `empty-${name}`,
          };
          for (const key of [plan.timedKey, plan.emptyKey]) if (key !== undefined) this.#keys.add(key);
          this.#senders.push(new FuzzSender(plan, this.#random.fork(name), contents));
        }
      }
    }
  }

  async #addReaders(url: string): Promise<void> {
    const streamKeys = [...this.#keys].filter((key) => !key.startsWith(`${SHARDED_KEY}:`));
    for (const [name, options] of Object.entries(READERS)) {
      const streamer = await this.#streamer(url, READER_TIMEOUT);
      const consumer = await streamer.createConsumer([...streamKeys, SHARDED_KEY], options);
      consumer.on('error', (error) => {
        if (error.code === 'ERR_INTERNAL') this.#violations.push(`${name} failed unexpectedly: ${error.message}`);
      });
      this.#readers.push(new FuzzReader(name, options, consumer, SHARDED_KEY));
    }
  }

  async #streamer(url: string, timeout: number): Promise<RedisStreamer> {
    const streamer = await this.#bench.streamer(url, { timeout, blockTimeout: BLOCK_TIMEOUT });
    this.#streamers.push(streamer);
    return streamer;
  }

  async #finishReading(redis: Redis, judge: FuzzJudge): Promise<void> {
    const complete = this.#readers.filter(({ seesAll }) => seesAll);
    // As long as a consumer gets on, it is only slow.
    for (let before = -1; before !== this.#read && complete.some(({ distinct }) => distinct < judge.entries);) {
      before = this.#read;
      const isComplete = (): boolean => complete.every(({ distinct }) => distinct >= judge.entries);
      await this.#until('every consumer has got every entry', () => isComplete() || this.#read > before, STANDSTILL);
    }
    await this.#within(
      'every acknowledgement is committed',
      Promise.all(this.#readers.map((reader) => reader.commit())),
    );
    for (const { name, group } of complete) {
      if (group === undefined) continue;
      await this.#until(`everything of ${name} is acknowledged`, () => this.#hasNothingPending(redis, group));
    }
  }

  /** Messages that consumers have handed out. */
  get #read(): number {
    return this.#readers.reduce((sum, { count }) => sum + count, 0);
  }

  async #hasNothingPending(redis: Redis, group: string): Promise<boolean> {
    for (const key of this.#keys) {
      const [count] = (await redis.xpending(key, group)) as [number];
      if (count > 0) return false;
    }
    return true;
  }

  #judgeTimes(): void {
    for (const { plan, sent } of this.#senders) {
      // Waiting for a connection, for an attempt, and for the reply each have the limit of the streamer.
      const limit = plan.name.includes(String(IMPATIENCE)) ? 3 * IMPATIENCE + SLACK : 3 * this.#plan.patience + SLACK;
      const slowest = sent.reduce((most, { sentAt, settledAt }) => Math.max(most, settledAt - sentAt), 0);
      if (slowest > limit) this.#violations.push(`a send of ${plan.name} took ${slowest} ms`);
    }
    for (const { name, slowestCommit } of this.#readers) {
      if (slowestCommit > READER_TIMEOUT + SLACK) this.#violations.push(`a commit of ${name} took ${slowestCommit} ms`);
    }
  }

  /** A connection whose self-test failed for a torn reply would use the plain way from then on, and would pass every other test. */
  #judgeConnections(): void {
    if (!this.#plan.usesWire) return;
    for (const { connections } of this.#streamers) {
      for (const role of ['writer', 'control', 'reader'] as const) {
        const plain = connections.ofRole(role).filter(({ channel }) => channel && !(channel instanceof RespChannel));
        if (plain.length > 0) this.#violations.push(`a ${role} connection does not use the wire`);
      }
    }
  }

  async #end(): Promise<void> {
    await Promise.all(this.#readers.map((reader) => reader.end()));
    await Promise.all(this.#streamers.map((streamer) => streamer.disconnect()));
  }

  async #until(what: string, condition: () => boolean | Promise<boolean>, limit = SETTLE_LIMIT): Promise<void> {
    const startedAt = performance.now();
    try {
      await until(what, condition, limit);
    } catch (error) {
      this.#violations.push((error as Error).message);
    }
    this.#times[what] = (this.#times[what] ?? 0) + Math.round(performance.now() - startedAt);
  }

  async #within(what: string, work: Promise<unknown>): Promise<void> {
    let isDone = false;
    void work.then(() => (isDone = true));
    await this.#until(what, () => isDone);
  }
}
