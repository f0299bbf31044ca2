import type { ConsumerOptions } from '../../../lib/engine/options/options.js';
import type { StreamMessage } from '../../../lib/engine/messages/stream-message.js';
import type { StreamConsumer } from '../../../lib/engine/consuming/stream-consumer.js';
import { ConnectionError, ConsumerEndedError } from '../../../lib/errors.js';
import { digestOf } from './fuzz-message.ts';

/** An entry as a consumer handed it out. */
export interface SeenEntry {
  readonly digest: string;
  times: number;
}

/** Messages of one commit of a consumer with the commit policy `disabled`. */
const PER_COMMIT = 100;

/** Takes every message of one consumer and notes it; acknowledges and commits where the commit policy asks for it. */
export class FuzzReader {
  readonly name: string;
  readonly options: ConsumerOptions;
  readonly consumer: StreamConsumer;
  /** By the key of the stream or shard, then by id; in the order in which they came first. */
  readonly seen = new Map<string, Map<string, SeenEntry>>();
  /** Errors of `next()` and `commit()`. */
  readonly errors: Error[] = [];
  /** The longest commit, in milliseconds. */
  slowestCommit = 0;
  count = 0;
  readonly #acks: boolean;
  readonly #commits: boolean;
  readonly #shardedKey: string;
  #running: Promise<void> | undefined;
  #committing: Promise<void> | undefined;

  /** @param shardedKey the only stream that has shards */
  constructor(name: string, options: ConsumerOptions, consumer: unknown, shardedKey: string) {
    const policy = options.mode === 'real-time' ? undefined : options.autoCommit;
    this.name = name;
    this.options = options;
    this.consumer = consumer as StreamConsumer;
    this.#shardedKey = shardedKey;
    this.#acks = policy === 'rolling' || policy === 'disabled';
    this.#commits = policy === 'disabled';
  }

  /** Whether every entry must be handed out, whatever happens to the connections. */
  get seesAll(): boolean {
    return this.options.mode === 'real-time' || this.options.autoCommit !== 'immediate';
  }

  /** Number of different entries. */
  get distinct(): number {
    let sum = 0;
    for (const entries of this.seen.values()) sum += entries.size;
    return sum;
  }

  get group(): string | undefined {
    return this.options.mode === 'real-time' ? undefined : this.options.group;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Commits what is not committed yet. */
  async commit(): Promise<void> {
    if (!this.#commits) return;
    await this.#committing;
    await this.#commit();
  }

  async end(): Promise<void> {
    await this.consumer.end();
    await this.#running;
  }

  async #run(): Promise<void> {
    for (;;) {
      try {
        const message = await this.consumer.next();
        this.#note(message);
        if (this.#acks) this.consumer.ack(message);
        if (this.#commits && this.count % PER_COMMIT === 0) this.#committing ??= this.#commit();
      } catch (error) {
        if (error instanceof ConsumerEndedError) return;
        this.errors.push(error as Error);
        // Where every stream has failed, each call fails.
        if (this.errors.length > 100) return;
      }
    }
  }

  #note(message: StreamMessage): void {
    const { streamKey, shardId, id, payload, headers } = message;
    const key = streamKey === this.#shardedKey ? `${streamKey}:${shardId}` : streamKey;
    let entries = this.seen.get(key);
    if (!entries) this.seen.set(key, (entries = new Map()));
    const digest = digestOf(payload, headers);
    const entry = entries.get(id);
    this.count += 1;
    if (!entry) entries.set(id, { digest, times: 1 });
    else if (entry.digest === digest) entry.times += 1;
    else this.errors.push(new Error(`${key} ${id} was handed out with two contents`));
  }

  async #commit(): Promise<void> {
    const startedAt = performance.now();
    try {
      await this.consumer.commit();
    } catch (error) {
      // Its limit is over; the acknowledgements stay queued, and the next commit sends them.
      if (!(error instanceof ConnectionError)) this.errors.push(error as Error);
    }
    this.slowestCommit = Math.max(this.slowestCommit, performance.now() - startedAt);
    this.#committing = undefined;
  }
}
