import { withResolvers } from '../../../shared/deferred.js';
import type { Deferred } from '../../../shared/deferred.js';
import { errorText } from '../../../shared/error-text.js';
import { ClosedError, InternalError, ReadLoopStalledError, RedisStreamsError } from '../../../errors.js';
import { RECONNECT_BACKOFF, backoffDelay, pause, within } from '../../../shared/backoff.js';
import { classifyRedisError, isTransient, replyWord, toPublicError } from '../../../redis/commands/redis-error.js';
import type { Partition } from '../partition.js';
import { LoopWatchdog } from './loop-watchdog.js';
import type { LoopReport, LoopState } from './loop-watchdog.js';
import type { ReadLoopOptions } from './read-loop-options.js';
import { ReadRound } from './read-round.js';

/** A server on which reads cannot be ended early is asked in short turns. */
const SHORT_BLOCK = 1_000;
/** How long a stop waits for a read to end by itself before it drops the connection. */
const STOP_GRACE = 1_500;
const PERMISSION_RETRY_DELAY = 5_000;

/** A step may take as long as the longest read twice over, and some replies of a slow server. */
function stepLimit(blockTimeout: number): number {
  return 2 * blockTimeout + 5_000;
}

/**
 * Reads in the background for as long as there is room: duties that are due, then one blocking read, again and again.
 *
 * One owner, one read at a time. A failure never ends the loop: it waits for the connection, heals what the failure says
 * about the streams, or marks a stream as failed and goes on with the others. A round that stalls is given up, and with it
 * its connection. Only {@link stop} ends the loop.
 */
export class ReadLoop {
  readonly #options: ReadLoopOptions;
  readonly #watch: LoopWatchdog;
  readonly #stopping = new AbortController();
  #streams: readonly Partition[] = [];
  #change: Deferred<void> = withResolvers<void>();
  /** Counts the calls of {@link restart}, so that a round notices one that found no read to end. */
  #changes = 0;
  #holds = 0;
  #loop: Promise<void> | undefined;
  #round = new ReadRound();
  /** Words of what was reported since the last read that succeeded. */
  readonly #reported = new Set<string>();

  constructor(options: ReadLoopOptions) {
    this.#options = options;
    const { hasRoom, liveSince, blockTimeout } = options;
    this.#watch = new LoopWatchdog({
      limit: stepLimit(blockTimeout),
      hasRoom,
      liveSince,
      onStalled: () => this.#giveUpRound(),
    });
  }

  get streams(): readonly Partition[] {
    return this.#streams;
  }

  report(): LoopReport {
    return this.#watch.report();
  }

  start(streams: readonly Partition[]): void {
    this.#streams = streams;
    this.#loop ??= this.#run();
  }

  async setStreams(streams: readonly Partition[]): Promise<void> {
    this.#streams = streams;
    await this.restart();
  }

  /** Ends the read that is under way, so that the next one sees what has changed; resolves when it has come back. */
  async restart(): Promise<void> {
    const working = this.#round.work?.promise;
    await this.#interrupt();
    await working;
  }

  /**
   * Runs a change while nothing is read. A read that is blocked while its group is moved would be answered from the new
   * position, with entries that nobody could tell from those of the old one.
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

  /** Idempotent; afterwards nothing is read and nothing will be. */
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
    this.#round.giveUp();
    await loop;
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
    this.#watch.start();
    for (let failures = 0; !signal.aborted;) {
      const round = new ReadRound();
      this.#round = round;
      void this.#pass(round, failures);
      const { failed } = await round.over.promise;
      failures = failed ? failures + 1 : 0;
    }
    this.#watch.stop();
  }

  #giveUpRound(): void {
    const { connection, onError } = this.#options;
    onError(new ReadLoopStalledError(nameOf(this.#streams), stepLimit(this.#options.blockTimeout)));
    connection.drop(connection.epoch);
    this.#round.giveUp();
  }

  /** Never rejects. */
  async #pass(round: ReadRound, failures: number): Promise<void> {
    try {
      await this.#attempt(round);
      round.over.resolve({ failed: false });
    } catch (error) {
      if (!this.#isOver(round)) await this.#recover(error, failures + 1);
      round.over.resolve({ failed: true });
    }
  }

  #isOver(round: ReadRound): boolean {
    return this.#stopping.signal.aborted || round.isGivenUp;
  }

  #enter(round: ReadRound, state: LoopState): void {
    if (!round.isGivenUp) this.#watch.enter(state);
  }

  async #attempt(round: ReadRound): Promise<void> {
    const { connection, credit, hasRoom, isStuck } = this.#options;
    this.#change = withResolvers<void>();
    if (this.#holds > 0 || !this.#streams.some((stream) => stream.isReadable)) {
      this.#watch.enter('idle');
      return this.#change.promise;
    }
    if (!hasRoom() || this.#isFull) this.#watch.enter('full');
    await this.#roomOrDuty();
    this.#enter(round, 'reconnecting');
    await connection.ready(this.#stopping.signal);
    if (this.#isOver(round) || this.#holds > 0 || (credit() === 0 && !isStuck())) return;
    this.#enter(round, 'reading');
    round.work = withResolvers<void>();
    try {
      await this.#work(round);
    } finally {
      round.work.resolve();
      round.work = undefined;
    }
  }

  get #isFull(): boolean {
    return this.#options.duties.some(({ isFull }) => isFull);
  }

  async #roomOrDuty(): Promise<void> {
    const { room, isStuck, duties, blockTimeout } = this.#options;
    if (!isStuck()) await Promise.race([room(), this.#change.promise]);
    if (!isStuck() && !this.#isFull) return;
    const dueIn = duties.map((duty) => (duty.isVital ? duty.dueIn() : Infinity));
    const waiting = new AbortController();
    const waits = this.#isFull ? [] : [room()];
    await Promise.race([...waits, this.#change.promise, pause(Math.min(blockTimeout, ...dueIn), waiting.signal)]);
    waiting.abort();
  }

  async #work(round: ReadRound): Promise<void> {
    const { credit, isStuck, reader, duties, batchSize, onPages } = this.#options;
    const changes = this.#changes;
    const streams = this.#streams.filter((stream) => stream.isReadable);
    for (const duty of streams.length > 0 ? duties : []) {
      if (duty.dueIn() > 0 || (this.#isFull && !duty.isVital)) continue;
      const places = credit() || (duty.isVital && isStuck() ? 1 : 0);
      if (places > 0) onPages(await duty.run(streams, places), round.isGivenUp);
      if (round.isGivenUp) return;
    }
    if (credit() === 0 || this.#isFull) return;
    if (this.#isOver(round) || changes !== this.#changes || streams.length === 0) return;
    round.isReading = true;
    try {
      const budget = { credit: credit(), batchSize: batchSize(), block: this.#blockTime() };
      onPages(await reader.read(streams, budget), round.isGivenUp);
      if (round.isGivenUp) return;
      this.#watch.readSucceeded();
      this.#reported.clear();
    } finally {
      round.isReading = false;
    }
  }

  /** Not at all while a duty is due: a server ends even the shortest wait up to 100 ms late. */
  #blockTime(): number | undefined {
    const { blockTimeout, duties, interrupt } = this.#options;
    const longest = interrupt.isPossible ? blockTimeout : Math.min(blockTimeout, SHORT_BLOCK);
    const wait = Math.min(longest, ...duties.map((duty) => duty.dueIn()));
    return wait > 0 ? Math.ceil(wait) : undefined;
  }

  async #recover(error: unknown, failures: number): Promise<void> {
    const { signal } = this.#stopping;
    this.#watch.enter('recovering');
    // Nobody opens a closed connection again.
    if (error instanceof ClosedError) return this.#stopping.abort();
    const kind = classifyRedisError(error);
    const streams = this.#streams.filter((stream) => stream.isReadable);
    const delay = pause(
      kind === 'permission' ? PERMISSION_RETRY_DELAY : backoffDelay(RECONNECT_BACKOFF, failures),
      signal,
    );
    if (kind === 'permission' || kind === 'retryable' || kind === 'no-memory') {
      this.#report(error, streams);
    } else if (!isTransient(kind) && kind !== 'interrupted') {
      await this.#heal(streams, error);
    } else if (kind === 'connection' && !(error instanceof RedisStreamsError) && failures === 1) {
      // No reply and no lost connection: a mistake in this package must not look like an outage.
      this.#options.onError(new InternalError(`Reading failed unexpectedly: ${errorText(error)}`, error));
    }
    // Even what is healed is not tried again at once: a group that somebody keeps deleting must not keep a core busy.
    await delay;
  }

  async #heal(streams: readonly Partition[], error: unknown): Promise<void> {
    try {
      await this.#options.reader.heal(streams, error);
    } catch (failure) {
      // The next read fails in the same way and leads back here.
      if (!isTransient(classifyRedisError(failure))) this.#report(failure, streams);
    }
    for (const stream of streams) if (stream.failure) this.#options.onStreamFailure(stream);
  }

  /** Once, until reading goes on: what comes back with every attempt must not fill a disk. */
  #report(error: unknown, streams: readonly Partition[]): void {
    const word = replyWord(error) ?? '';
    if (this.#reported.has(word)) return;
    this.#reported.add(word);
    this.#options.onError(toPublicError(error, nameOf(streams), 'reading from'));
  }
}

function nameOf(streams: readonly Partition[]): string {
  return streams.map(({ key }) => key).join("', '");
}
