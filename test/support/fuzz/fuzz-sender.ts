import { setTimeout as pause } from 'node:timers/promises';

import type { Delivery } from '../../../lib/engine/options/options.js';
import type { StreamProducer } from '../../../lib/engine/producing/stream-producer.js';
import { RedisStreamsError, UncertainSendError } from '../../../lib/errors.js';
import { digestOf } from './fuzz-message.ts';
import type { Content, ContentSource, Outcome, SentMessage } from './fuzz-message.ts';
import type { SeededRandom } from './seeded-random.ts';

export interface SenderPlan {
  readonly name: string;
  readonly delivery: Delivery;
  readonly producer: StreamProducer;
  readonly isSharded: boolean;
  /** Streams of named messages. */
  readonly streamKeys: readonly string[];
  /** A stream for messages that get their time from the sender. */
  readonly timedKey: string | undefined;
  /** A stream for messages without any content. */
  readonly emptyKey: string | undefined;
}

/** Messages of one sender that may be without an outcome. */
const MAX_OPEN = 250;
const EMPTY: Content = { payload: '', headers: undefined };
/** Messages with the same time. */
const PER_TIME = 20;

/**
 * Sends through one producer, in bursts, by `send`, `post` and `enqueue`. It owns the record of what it sent and of what it
 * was told about each message.
 */
export class FuzzSender {
  readonly plan: SenderPlan;
  readonly sent: SentMessage[] = [];
  /** Enqueued messages that failed; which of them is unknown. */
  failedEnqueues = 0;
  readonly #random: SeededRandom;
  readonly #contents: ContentSource;
  readonly #startedAt = Date.now();
  readonly #settling = new Set<Promise<void>>();
  #isStopped = false;
  #running: Promise<void> | undefined;
  #timed = 0;

  constructor(plan: SenderPlan, random: SeededRandom, contents: ContentSource) {
    this.plan = plan;
    this.#random = random;
    this.#contents = contents;
    // The errors of enqueued messages; those of the others arrive at their promises.
    plan.producer.on('error', () => undefined);
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Sends nothing more; resolves when each message has its outcome. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await this.#running;
    await Promise.all(this.#settling);
    await this.#flush();
  }

  async #run(): Promise<void> {
    const random = this.#random;
    while (!this.#isStopped) {
      const burst = random.pick([1, 1, 3, 10, 40]);
      for (let index = 0; index < burst; index += 1) this.#sendOne();
      if (random.isTrue(0.05)) await this.#flush();
      do await pause(random.integer(50, 500));
      while (this.plan.producer.queued > MAX_OPEN && !this.#isStopped);
    }
  }

  async #flush(): Promise<void> {
    try {
      await this.plan.producer.flush();
    } catch (error) {
      this.failedEnqueues += Number.parseInt((error as AggregateError).message, 10);
    }
  }

  #sendOne(): void {
    const { name: producer, streamKeys, timedKey, emptyKey } = this.plan;
    const random = this.#random;
    const n = this.sent.length;
    const choice = random.next();
    if (timedKey !== undefined && choice < 0.2) {
      const timestamp = new Date(this.#startedAt + Math.floor(this.#timed / PER_TIME));
      this.#timed += 1;
      this.#send(timedKey, `${producer}:${n}`, this.#contents.named(`${producer}:${n}`), timestamp);
    } else if (emptyKey !== undefined && choice < 0.25) {
      this.#send(emptyKey, undefined, EMPTY);
    } else {
      this.#send(random.pick(streamKeys), `${producer}:${n}`, this.#contents.named(`${producer}:${n}`));
    }
  }

  #send(streamKey: string, name: string | undefined, { payload, headers }: Content, timestamp?: Date): void {
    const { name: sender, producer } = this.plan;
    const message: SentMessage = {
      name,
      producer: sender,
      n: this.sent.length,
      streamKey,
      digest: digestOf(payload, headers),
      sentAt: performance.now(),
      settledAt: 0,
      outcome: 'open',
      key: undefined,
      id: undefined,
      error: undefined,
    };
    this.sent.push(message);
    const options = { ...(headers && { headers }), ...(timestamp && { timestamp }) };
    const way = this.#random.next();
    if (way < 0.6) {
      this.#follow(message, producer.sendTo(streamKey, payload, options));
    } else if (way < 0.8) {
      producer.post(streamKey, payload, options, (error) =>
        settle(message, error ? outcomeOf(error) : 'confirmed', error),
      );
    } else {
      producer.enqueueTo(streamKey, payload, options);
      settle(message, 'unknown');
    }
  }

  #follow(message: SentMessage, result: Promise<{ streamKey: string; shardId: number; id: string }>): void {
    const settling = result.then(
      ({ streamKey, shardId, id }) => {
        message.key = this.plan.isSharded ? `${streamKey}:${shardId}` : streamKey;
        message.id = id;
        settle(message, 'confirmed');
      },
      (error: RedisStreamsError) => settle(message, outcomeOf(error), error),
    );
    this.#settling.add(settling);
    void settling.then(() => this.#settling.delete(settling));
  }
}

function outcomeOf(error: Error): Outcome {
  return error instanceof UncertainSendError ? 'uncertain' : 'failed';
}

function settle(message: SentMessage, outcome: Outcome, error?: RedisStreamsError): void {
  if (message.outcome !== 'open') throw new Error(`${message.name ?? 'An empty message'} was settled twice`);
  message.outcome = outcome;
  message.error = error;
  message.settledAt = performance.now();
}
