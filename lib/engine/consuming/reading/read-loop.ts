import { withResolvers } from '../../../shared/deferred.js';
import type { Deferred } from '../../../shared/deferred.js';
import { ClosedError, ReadLoopStalledError } from '../../../errors.js';
import type { RedisStreamsError } from '../../../errors.js';
import {
  POLL_BACKOFF,
  RECONNECT_BACKOFF,
  REFUSAL_BACKOFF,
  backoffDelay,
  pause,
  within,
} from '../../../shared/backoff.js';
import {
  classifyRedisError,
  isOfKey,
  isRefusal,
  replyWord,
  toPublicError,
} from '../../../redis/commands/redis-error.js';
import type { RedisErrorKind } from '../../../redis/commands/redis-error.js';
import type { Partition } from '../partition.js';
import { LoopWatchdog } from './loop-watchdog.js';
import type { LoopReport, LoopState } from './loop-watchdog.js';
import type { ReadLoopOptions, ReadUse } from './read-loop-options.js';
import { fullPage, placesFor } from './read-rotation.js';
import type { ReadPage } from './stream-reader.js';

/** Longest BLOCK, in milliseconds, on a server where a read cannot be ended early. */
const SHORT_BLOCK = 1_000;
/** How long a stop waits for the read to end before it closes the connection, and again after that. */
const STOP_GRACE = 1_500;

/** Reported, and expected to pass soon. */
const PASSING: ReadonlySet<RedisErrorKind> = new Set(['retryable', 'no-memory']);

/** The time limit of one step: twice the longest read, and some slow replies. */
function stepLimit(blockTimeout: number): number {
  return 2 * blockTimeout + 5_000;
}

/** One round of the loop. An abandoned round no longer decides anything; the loop has started the next one. */
class Round {
  readonly over = withResolvers<{ failed: boolean }>();
  /** Failures in a row before this round; none once a read has succeeded. */
  failures: number;
  isAbandoned = false;
  /** Settles when the tasks and the read of this round are over; undefined before and after. */
  work: Deferred<void> | undefined;
  isReading = false;
  /** The read after the one whose pages arrive now. */
  ahead: Promise<number> | undefined;
  /** Settles when the pages of the last read that was sent have been passed on. */
  passedOn: Promise<unknown> = Promise.resolve();
  /** Each gives back the places of work that is under way, once: it may never come back. */
  readonly reservations = new Set<(found: number) => void>();

  constructor(failures = 0) {
    this.failures = failures;
  }

  abandon(): void {
    this.isAbandoned = true;
    for (const giveBack of this.reservations) giveBack(0);
    this.work?.resolve();
    this.over.resolve({ failed: true });
  }
}

/**
 * Owns the one blocking read of its partitions. While the buffer has room it repeats a round: run the periodic tasks that are
 * due, then send one read. When a page is full and another batch fits into the buffer, the next read is sent early: in a group when
 * the page begins to arrive, because Redis has finished that read by then; otherwise when the page is complete. The entries go to
 * `onPages` of the {@link ConsumerSession}.
 *
 * The states of a round:
 *
 * - `idle`: no partition can be read, because each has failed or is paused, or {@link betweenReads} holds the loop. Left when
 *   that changes.
 * - `full`: the buffer has no room, or a task is full. Left when the buffer has room, when a vital task is due, or when
 *   {@link restart} asks for another look.
 * - `reconnecting`: waits until the connection is live.
 * - `reading`: runs the due tasks, then the blocking read. When they are done the round is over and the next one starts. A loop
 *   that polls does not block; after a read that found nothing it waits, up to a second.
 * - `recovering`: a task or the read has failed. Repairs the partitions if the failure is about them, reports the failure if
 *   it must be reported, and waits for the backoff delay before the next round starts. A reply that says nothing about the
 *   key, such as that of a proxy, is never final: it is reported, and seen in {@link report} until a read succeeds. One that
 *   is about some of the partitions only leaves these to `RefusedPartitions`.
 *
 *        ┌──────────── next round ◀───────────────────┬─────────────────────┐
 *        ▼                                            │ done                │ backoff over
 *     idle / full ───────▶ reconnecting ───────▶ reading ── failure ──▶ recovering
 *
 * Two events start the next round early. {@link restart} ends the read of the round, so that the next one sees what has
 * changed. The {@link LoopWatchdog} abandons a round whose step takes longer than any step may, and its connection with
 * it; what an abandoned round still reads is delivered, marked as late.
 *
 * Two events end the loop: {@link stop}, and a connection that was closed, because no client opens a closed one again.
 *
 * It never ends because of a failure, never has more than two reads in flight, the first of which is already arriving,
 * and never reads more than the buffer has places for.
 */
export class ReadLoop {
  readonly #options: ReadLoopOptions;
  readonly #watchdog: LoopWatchdog;
  readonly #stopping = new AbortController();
  #partitions: readonly Partition[] = [];
  #change: Deferred<void> = withResolvers<void>();
  /** Counts restarts: a round notices one that came before its read, when there was no read to end. */
  #changes = 0;
  /** Calls of {@link betweenReads} that hold the loop. */
  #holds = 0;
  #loop: Promise<void> | undefined;
  #round = new Round();
  /** First words of the refusals that were reported since the last round that succeeded. */
  readonly #reported = new Set<string>();
  #refusal: RedisStreamsError | undefined;
  /** In a row; counted where reads do not block. */
  #emptyReads = 0;
  /** The last read found as much as it asked for, so there may be more. */
  #wasFull = false;
  /** The last read has asked for an announcement. */
  #hasAsked = false;

  constructor(options: ReadLoopOptions) {
    this.#options = options;
    const { buffer, liveSince, blockTimeout } = options;
    this.#watchdog = new LoopWatchdog({
      limit: stepLimit(blockTimeout),
      hasRoom: () => buffer.hasRoom,
      liveSince,
      onStalled: () => this.#abandonRound(),
    });
  }

  get partitions(): readonly Partition[] {
    return this.#partitions;
  }

  report(): LoopReport {
    const report = this.#watchdog.report();
    const readable = this.#partitions.filter(({ isReadable }) => isReadable);
    const isPaused = readable.length > 0 && readable.every((partition) => partition.isPaused);
    const state = isPaused && report.state !== 'stalled' ? 'paused' : report.state;
    return { ...report, state, isHealthy: report.isHealthy && !this.#refusal, refusal: this.#refusal };
  }

  /** Starts the loop with these partitions; one that runs already reads them, and no others, from now on. */
  async read(partitions: readonly Partition[]): Promise<void> {
    this.#partitions = partitions;
    this.#options.refused.retain(partitions);
    if (this.#loop) await this.restart();
    else this.#loop = this.#run();
  }

  /** Ends the read that is in flight, so that the next round sees what has changed; resolves when it has come back. */
  async restart(): Promise<void> {
    const working = this.#round.work?.promise;
    await this.#interrupt();
    await working;
  }

  /** Where reads do not block: reads now, and more often for a while, because an entry is expected. */
  lookSoon(): void {
    if (!this.#waitsItself) return;
    this.#emptyReads = 0;
    this.#change.resolve();
  }

  /**
   * Runs a change while no read is in flight. If a group were moved during a blocked read, the server would answer that
   * read from the new position, with entries that cannot be told from those of the old one.
   */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    this.#holds += 1;
    try {
      await this.restart();
      await change();
    } finally {
      this.#holds -= 1;
      this.#change.resolve();
    }
  }

  /** Idempotent; afterwards no read is in flight, and none will be sent. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    const loop = this.#loop ?? Promise.resolve();
    // A server that stands still answers neither the read nor the command that is to end it.
    await within(
      STOP_GRACE,
      this.#interrupt().then(() => loop),
    );
    await this.#options.connection.close();
    await within(STOP_GRACE, loop);
    this.#round.abandon();
    await loop;
  }

  /** The partitions that are read now: none that is paused, and those that are refused only when no others are left. */
  get #active(): readonly Partition[] {
    const readable = this.#partitions.filter(({ isReadable, isPaused }) => isReadable && !isPaused);
    const active = readable.filter(({ refusal }) => refusal === undefined);
    return active.length > 0 ? active : readable;
  }

  async #interrupt(): Promise<void> {
    const round = this.#round;
    this.#changes += 1;
    this.#change.resolve();
    const isOver = (): boolean => !round.isReading || this.#round !== round;
    if (!isOver()) await this.#options.interrupt.interrupt(isOver);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    this.#watchdog.start();
    for (let failures = 0; !signal.aborted;) {
      const round = new Round(failures);
      this.#round = round;
      void this.#pass(round);
      const { failed } = await round.over.promise;
      failures = failed ? round.failures + 1 : 0;
    }
    this.#watchdog.stop();
  }

  #abandonRound(): void {
    const { connection, listener, blockTimeout } = this.#options;
    listener.onError(new ReadLoopStalledError(nameOf(this.#partitions), stepLimit(blockTimeout)));
    connection.drop(connection.epoch);
    this.#round.abandon();
  }

  /** Never rejects. */
  async #pass(round: Round): Promise<void> {
    try {
      await this.#attempt(round);
      round.over.resolve({ failed: false });
    } catch (error) {
      if (!this.#isOver(round)) await this.#recover(error, round.failures + 1);
      round.over.resolve({ failed: true });
    }
  }

  #isOver(round: Round): boolean {
    return this.#stopping.signal.aborted || round.isAbandoned;
  }

  #enter(round: Round, state: LoopState): void {
    if (!round.isAbandoned) this.#watchdog.enter(state);
  }

  async #attempt(round: Round): Promise<void> {
    const { connection, buffer } = this.#options;
    this.#change = withResolvers<void>();
    if (this.#holds > 0 || this.#active.length === 0) {
      this.#watchdog.enter('idle');
      return this.#change.promise;
    }
    if (!buffer.hasRoom || this.#isTaskFull) this.#watchdog.enter('full');
    await this.#roomOrTask();
    this.#enter(round, 'reconnecting');
    await connection.ready(this.#stopping.signal);
    if (this.#isOver(round) || this.#holds > 0 || (buffer.credit === 0 && !buffer.isStarved)) return;
    this.#enter(round, 'reading');
    round.work = withResolvers<void>();
    try {
      await this.#work(round);
    } finally {
      round.work.resolve();
      round.work = undefined;
    }
  }

  get #isTaskFull(): boolean {
    return this.#options.tasks.some(({ isFull }) => isFull);
  }

  /** Waits for room; where only a vital task can make room, also until that task is due. */
  async #roomOrTask(): Promise<void> {
    const { buffer, tasks, blockTimeout } = this.#options;
    if (!buffer.isStarved) await Promise.race([buffer.room(), this.#change.promise]);
    if (!buffer.isStarved && !this.#isTaskFull) return;
    const dueIn = tasks.map((task) => (task.isVital ? task.dueIn() : Infinity));
    const waits = this.#isTaskFull ? [] : [buffer.room()];
    await within(Math.min(blockTimeout, ...dueIn), Promise.race([...waits, this.#change.promise]));
  }

  async #work(round: Round): Promise<void> {
    const { buffer, tasks } = this.#options;
    const changes = this.#changes;
    const partitions = this.#active;
    let refusal: Error | undefined;
    for (const task of partitions.length > 0 ? tasks : []) {
      if (task.dueIn() > 0 || (this.#isTaskFull && !task.isVital)) continue;
      const places = buffer.credit || (task.isVital && buffer.isStarved ? 1 : 0);
      try {
        if (places > 0) await this.#fill(round, places, 'task', () => task.run(partitions, places, buffer.batchSize));
      } catch (error) {
        // A server or proxy that refuses to claim entries may well let new ones be read.
        const kind = classifyRedisError(error);
        if (!isRefusal(kind) && kind !== 'no-memory') throw error;
        refusal ??= error as Error;
      }
      if (round.isAbandoned) return;
    }
    const canRead = buffer.credit > 0 && !this.#isTaskFull && changes === this.#changes && partitions.length > 0;
    const found =
      canRead && !this.#isOver(round) ? await this.#read(round, partitions, refusal === undefined) : undefined;
    if (refusal !== undefined) throw refusal;
    if (this.#waitsItself && found !== undefined && changes === this.#changes) await this.#untilNextLook(found);
  }

  /** Reads do not block: it is the loop that waits after one which found nothing. */
  get #waitsItself(): boolean {
    return this.#options.isPolling || this.#options.watch !== undefined;
  }

  /** Ends early when entries are announced, when a task is due, or when {@link lookSoon} is called. */
  async #untilNextLook(found: number): Promise<void> {
    const { watch, tasks, blockTimeout } = this.#options;
    const isArmed = watch?.isArmed ?? false;
    this.#emptyReads = found > 0 ? 0 : this.#emptyReads + 1;
    if (isArmed ? this.#wasFull : found > 0 || (watch && !this.#hasAsked)) return;
    const delay = isArmed ? blockTimeout : backoffDelay(POLL_BACKOFF, this.#emptyReads);
    const dueIn = tasks.map((task) => task.dueIn());
    const announced = watch && isArmed ? [watch.invalidated()] : [];
    await within(Math.min(delay, ...dueIn), Promise.race([...announced, this.#change.promise]));
  }

  /** Returns how many entries the last read found. @param isClean no task of the round was refused */
  async #read(round: Round, partitions: readonly Partition[], isClean: boolean): Promise<number> {
    round.isReading = true;
    try {
      let found = await this.#readPage(round, partitions, isClean);
      for (let next = round.ahead; next; next = round.ahead) {
        round.ahead = undefined;
        found = await next;
      }
      return found;
    } finally {
      // Only the end of the connection tears a page, and it fails the next read as well.
      await round.ahead?.catch(() => undefined);
      round.ahead = undefined;
      round.isReading = false;
    }
  }

  /** @param isAhead the previous page is still arriving */
  async #readPage(round: Round, partitions: readonly Partition[], isClean: boolean, isAhead = false): Promise<number> {
    const { reader, buffer, watch } = this.#options;
    const { batchSize } = buffer;
    const changes = this.#changes;
    // After a refusal a read that does not block shows at once whether it is over.
    const block = isClean && !this.#refusal ? this.#blockTime() : undefined;
    const use = block !== undefined ? 'blocking read' : watch ? 'watched read' : 'read';
    this.#hasAsked = !this.#wasFull;
    watch?.begin(this.#hasAsked);
    // The next read counts on the places that are not reserved here.
    const places = placesFor(partitions.length, buffer, this.#wasFull);
    const isFull = (found: number): boolean => found >= fullPage(partitions.length, batchSize, places);
    const onCount = (count: number): void => {
      if (!isClean || watch || !isFull(count) || !reader.mayReadAhead?.(partitions)) return;
      this.#readAhead(round, partitions, changes, true);
    };
    const before = round.passedOn;
    const read = async (): Promise<ReadPage[]> => {
      const pages = await reader.read(partitions, { credit: places, batchSize, block, isAhead, onCount });
      if (isAhead) await before.catch(() => undefined);
      return pages;
    };
    const reading = this.#fill(round, places, use, read, (found) => {
      if (round.isAbandoned) return;
      this.#wasFull = isFull(found);
      this.#watchdog.readSucceeded();
      // The time of the read behind begins when this page is complete.
      if (round.ahead) this.#enter(round, 'reading');
      if (!isClean) return;
      round.failures = 0;
      this.#reported.clear();
      this.#refusal = undefined;
      if (this.#wasFull) this.#readAhead(round, partitions, changes, false);
    });
    round.passedOn = reading;
    return reading;
  }

  /**
   * Sends the read after a full page, unless a task, a restart or a stop comes first.
   * @param changes number of changes when that page was asked for
   * @param isArriving whether that page is still arriving
   */
  #readAhead(round: Round, partitions: readonly Partition[], changes: number, isArriving: boolean): void {
    if (round.ahead || !this.#options.buffer.mayReadAhead) return;
    if (changes !== this.#changes || this.#hasOtherWork(round)) return;
    // One that was halted, without a restart.
    if (!partitions.every(({ isReadable }) => isReadable)) return;
    this.#enter(round, 'reading');
    round.ahead = this.#readPage(round, partitions, true, isArriving);
    // It may fail before the page is complete; nothing awaits it until then.
    round.ahead.catch(() => undefined);
  }

  /** Whether something other than the next read comes first. */
  #hasOtherWork(round: Round): boolean {
    return (
      this.#holds > 0 ||
      this.#isOver(round) ||
      this.#isTaskFull ||
      this.#options.tasks.some((task) => task.dueIn() <= 0)
    );
  }

  /**
   * Passes pages on; until then their places are reserved. Returns how many entries there were.
   * @param arrived called before, with that number: the server reads the next page while this one becomes messages
   */
  async #fill(
    round: Round,
    places: number,
    use: ReadUse,
    read: () => Promise<ReadPage[]>,
    arrived?: (found: number) => void,
  ): Promise<number> {
    const { buffer, listener } = this.#options;
    let found = 0;
    const release = buffer.reserve(places, use);
    const giveBack = (count: number): void => {
      if (round.reservations.delete(giveBack)) release(count);
    };
    round.reservations.add(giveBack);
    try {
      const pages = await read();
      for (const { entries } of pages) found += entries.length;
      arrived?.(found);
      listener.onPages(pages, round.isAbandoned);
      return found;
    } finally {
      giveBack(found);
    }
  }

  /** Does not block while a task is due: a server ends even the shortest block up to 100 ms late. */
  #blockTime(): number | undefined {
    const { blockTimeout, tasks, interrupt, buffer } = this.#options;
    if (this.#waitsItself || buffer.mustNotBlock) return undefined;
    const longest = interrupt.isPossible ? blockTimeout : Math.min(blockTimeout, SHORT_BLOCK);
    const wait = Math.min(longest, ...tasks.map((task) => task.dueIn()));
    return wait > 0 ? Math.ceil(wait) : undefined;
  }

  async #recover(error: unknown, failures: number): Promise<void> {
    const { signal } = this.#stopping;
    this.#watchdog.enter('recovering');
    if (error instanceof ClosedError) return this.#stopping.abort();
    const partitions = this.#active;
    const trouble = isOfKey(classifyRedisError(error)) ? await this.#heal(partitions, error) : error;
    const kind = trouble === undefined ? undefined : classifyRedisError(trouble);
    const isRefused = kind !== undefined && isRefusal(kind);
    if (isRefused && (await this.#separate(partitions))) return;
    if (kind !== undefined && (isRefused || PASSING.has(kind))) this.#report(trouble, partitions);
    // After a repair too: a group that is deleted again and again must not keep a core busy. The longest delay of either
    // back-off, with its jitter, is under every step limit.
    await pause(backoffDelay(isRefused ? REFUSAL_BACKOFF : RECONNECT_BACKOFF, failures), signal);
  }

  /** Returns true when the refusal is about some of the partitions only, so that the others can be read at once. */
  async #separate(partitions: readonly Partition[]): Promise<boolean> {
    const { refused, listener } = this.#options;
    const separated = await refused.separate(partitions);
    for (const { refusal } of separated) if (refusal) listener.onError(refusal);
    return separated.length > 0;
  }

  /** Returns the error that prevents the repair, if there is one; the next read then fails in the same way and leads back here. */
  async #heal(partitions: readonly Partition[], error: unknown): Promise<unknown> {
    const { reader, listener } = this.#options;
    let trouble: unknown;
    try {
      await reader.heal(partitions, error);
    } catch (failure) {
      trouble = failure;
    }
    for (const partition of partitions) if (partition.failure) listener.onPartitionFailure(partition);
    return trouble;
  }

  /** Reports a refusal once until a round succeeds: one that repeats with every attempt must not fill a disk. */
  #report(error: unknown, partitions: readonly Partition[]): void {
    this.#refusal = toPublicError(error, nameOf(partitions), 'reading from');
    const word = replyWord(error) ?? '';
    if (this.#reported.has(word)) return;
    this.#reported.add(word);
    this.#options.listener.onError(this.#refusal);
  }
}

function nameOf(partitions: readonly Partition[]): string {
  return partitions.map(({ key }) => key).join("', '");
}
