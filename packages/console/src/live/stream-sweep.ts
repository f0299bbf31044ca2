import { PermissionError, RedisStreamsError, WrongTypeError } from 'nestjs-redis-streams';
import type { StreamDetails } from 'nestjs-redis-streams';
import type { StreamRow } from '../api.js';
import type { StreamPolicy } from '../stream-policy.js';
import { deadLetterStreamOf } from '../stream-policy.js';
import type { ConsoleSource } from '../console-source.js';
import { inTurns } from '../in-turns.js';
import { KeyWalk } from './key-walk.js';
import type { LagHistory } from './lag-history.js';
import { Rates } from './rates.js';
import { countDeadLetters, streamRow, unknownRow } from './rows.js';
import type { Look } from './topic.js';

/** All streams at one time. */
export interface Snapshot {
  readonly rows: readonly StreamRow[];
  readonly isComplete: boolean;
  readonly at: number;
}

/** Streams that are looked at at the same time: more would hold up the other users of the connection. */
const WIDTH = 8;
/** A look that takes longer shows what it has, in milliseconds. */
const PART = 1_000;

/** Looks at all streams that the console may show, one after the other. */
export class StreamSweep {
  readonly #source: Pick<ConsoleSource, 'manager' | 'streams'>;
  readonly #policy: StreamPolicy;
  readonly #history: LagHistory;
  readonly #walk = new KeyWalk();
  readonly #rates = new Rates();
  readonly #rows = new Map<string, StreamRow>();
  #hasFinished = false;
  #probed = 0;

  constructor(source: Pick<ConsoleSource, 'manager' | 'streams'>, policy: StreamPolicy, history: LagHistory) {
    this.#source = source;
    this.#policy = policy;
    this.#history = history;
  }

  /** @throws RedisStreamsError */
  async look(look: Look<Snapshot>): Promise<Snapshot> {
    const manager = await this.#source.manager();
    const { named } = this.#policy;
    const walk = this.#walk;
    const walking = named ? Promise.resolve() : walk.advance(manager, look);
    // Later, what the walk finds is shown by the next look: a node that is away holds up one of both only.
    if (!walk.isComplete) await walking;
    const [read, walked] = await Promise.allSettled([this.#read(look), walking]);
    for (const outcome of [read, walked]) if (outcome.status === 'rejected') throw outcome.reason;
    this.#hasFinished = true;
    return this.#snapshot(named !== undefined || walk.isComplete);
  }

  /** @throws RedisStreamsError */
  async #read(look: Look<Snapshot>): Promise<void> {
    const { named } = this.#policy;
    const keys = this.#walk.keys;
    const streams = named ?? this.#policy.streamsAmong(keys);
    const outcome = new SweepOutcome();
    let shownAt = performance.now();
    const lookAt = async (stream: string): Promise<void> => {
      if (look.signal.aborted) return;
      const hasDeadLetters = named !== undefined || keys.has(deadLetterStreamOf(stream));
      await this.#lookAt(stream, hasDeadLetters, outcome);
      look.progress();
      if (this.#hasFinished || performance.now() - shownAt < PART) return;
      shownAt = performance.now();
      look.publish(this.#snapshot(false));
    };
    // Those that could not be read come last, and as long as none of the first can, the others are not asked.
    const failed = streams.filter((stream) => typeof this.#rows.get(stream)?.failure === 'string');
    const others = streams.filter((stream) => !failed.includes(stream));
    await inTurns(others, WIDTH, lookAt);
    // Others each time: they may be on several nodes, of which one is back.
    const start = this.#probed++ % Math.max(1, failed.length);
    const turned = [...failed.slice(start), ...failed.slice(0, start)];
    const [probes, rest] = [turned.slice(0, WIDTH), turned.slice(WIDTH)];
    await inTurns(probes, WIDTH, lookAt);
    if (probes.some((stream) => this.#rows.get(stream)?.failure === null)) await inTurns(rest, WIDTH, lookAt);
    this.#forgetAllBut(new Set(streams));
    const { failure } = outcome;
    if (failure && !look.signal.aborted) throw failure;
  }

  /** @throws RedisStreamsError when none of many can be read: then Redis is away, and each would have to wait for its time limit */
  async #lookAt(stream: string, hasDeadLetters: boolean, outcome: SweepOutcome): Promise<void> {
    try {
      const { streams } = this.#source;
      const details = await streams.info(stream);
      const dead = hasDeadLetters ? await countDeadLetters(stream, streams) : 0;
      outcome.noteAnswer();
      this.#note(stream, details, dead);
    } catch (error) {
      if (!(error instanceof RedisStreamsError)) throw error;
      outcome.noteFailure(error);
      this.#rates.forget(stream);
      if (isRefusal(error)) this.#rows.delete(stream);
      else this.#rows.set(stream, unknownRow(stream, error));
    }
  }

  #note(stream: string, details: StreamDetails, deadLetters: number | null): void {
    if (details.shards.length === 0) {
      this.#rows.delete(stream);
      this.#rates.forget(stream);
      return;
    }
    const row = streamRow(details, deadLetters, this.#rates.next(details));
    this.#rows.set(stream, row);
    const at = Date.now();
    for (const group of row.groups) this.#history.add(stream, group, at);
  }

  #forgetAllBut(streams: ReadonlySet<string>): void {
    for (const stream of this.#rows.keys()) {
      if (streams.has(stream)) continue;
      this.#rows.delete(stream);
      this.#rates.forget(stream);
    }
  }

  #snapshot(isComplete: boolean): Snapshot {
    return { rows: [...this.#rows.values()], isComplete, at: Date.now() };
  }
}

/** What became of the streams of one look. */
class SweepOutcome {
  #answers = 0;
  #inARow = 0;
  #first: RedisStreamsError | undefined;

  /** The reason, where no stream could be read. */
  get failure(): RedisStreamsError | undefined {
    return this.#answers === 0 ? this.#first : undefined;
  }

  noteAnswer(): void {
    this.#answers += 1;
    this.#inARow = 0;
  }

  /** @throws RedisStreamsError */
  noteFailure(error: RedisStreamsError): void {
    this.#first ??= error;
    // What is refused is answered.
    this.#inARow = isRefusal(error) ? 0 : this.#inARow + 1;
    if (this.#inARow > 2 * WIDTH) throw error;
  }
}

/** A key that the user may not read, or that holds no stream any more: the others are shown all the same. */
function isRefusal(error: unknown): boolean {
  return error instanceof PermissionError || error instanceof WrongTypeError;
}
