import { REFUSAL_BACKOFF, backoffDelay } from '../../../shared/backoff.js';
import { monotonicNow } from '../../../shared/clock.js';
import { classifyRedisError, isRefusal, toPublicError } from '../../../redis/commands/redis-error.js';
import type { ReadCommands } from '../../../redis/commands/stream-commands.js';
import type { RedisStreamsError } from '../../../errors.js';
import type { Partition } from '../partition.js';
import type { PeriodicTask } from './periodic-task.js';
import type { ReadPage } from './stream-reader.js';

interface Wait {
  readonly attempts: number;
  /** When the server is asked again, on the monotonic clock. */
  readonly until: number;
}

/**
 * Keeps partitions apart that the server, or a proxy before it, refuses to have read, such as keys that an ACL does not
 * include any more: one of them in a command for several would hold up all. It asks with a slow back-off whether they may
 * be read again; until then they have a `refusal`.
 *
 * It never keeps all partitions of a loop apart: a refusal of all of them concerns the whole loop.
 */
export class RefusedPartitions implements PeriodicTask {
  readonly #control: Pick<ReadCommands, 'streamInfo'>;
  readonly #waits = new Map<Partition, Wait>();

  constructor(control: Pick<ReadCommands, 'streamInfo'>) {
    this.#control = control;
  }

  /**
   * After a read was refused, which names no key: finds the partitions because of which it was. Returns those that are kept
   * apart now; none when the refusal is about all of them.
   */
  async separate(partitions: readonly Partition[]): Promise<readonly Partition[]> {
    if (partitions.length < 2) return [];
    const refusals = await Promise.all(partitions.map((partition) => this.#refusalOf(partition)));
    const refused = partitions.filter((_, index) => refusals[index] !== undefined);
    if (refused.length === partitions.length) return [];
    for (const partition of refused) {
      partition.refusal = refusals[partitions.indexOf(partition)];
      this.#waitFor(partition, 1);
    }
    return refused;
  }

  /** Forgets partitions that are not read any more. */
  retain(partitions: readonly Partition[]): void {
    for (const partition of this.#waits.keys()) if (!partitions.includes(partition)) this.#waits.delete(partition);
  }

  dueIn(): number {
    let first = Infinity;
    for (const { until } of this.#waits.values()) first = Math.min(first, until);
    return Math.max(0, first - monotonicNow());
  }

  async run(): Promise<ReadPage[]> {
    const now = monotonicNow();
    const due = [...this.#waits].filter(([, { until }]) => until <= now);
    await Promise.all(
      due.map(async ([partition, { attempts }]) => {
        partition.refusal = await this.#refusalOf(partition);
        if (partition.refusal) this.#waitFor(partition, attempts + 1);
        else this.#waits.delete(partition);
      }),
    );
    return [];
  }

  #waitFor(partition: Partition, attempts: number): void {
    this.#waits.set(partition, { attempts, until: monotonicNow() + backoffDelay(REFUSAL_BACKOFF, attempts) });
  }

  /** A look at the stream needs the same permission for its key as a read. */
  async #refusalOf({ key }: Partition): Promise<RedisStreamsError | undefined> {
    try {
      await this.#control.streamInfo(key);
      return undefined;
    } catch (error) {
      return isRefusal(classifyRedisError(error)) ? toPublicError(error, key, 'reading from') : undefined;
    }
  }
}
