import { DEAD_LETTER_SUFFIX } from '../../engine/settling/dead-letter.js';
import { InvalidOptionError } from '../../errors.js';
import { isShardOf } from './handler-binding.js';
import type { HandlerBinding, HandlerGroup } from './handler-binding.js';

interface AddedStream {
  readonly pattern: string;
  readonly streamKey: string;
}

/** A stream that the handlers of a binding read. */
interface Reading {
  readonly streamKey: string;
  readonly binding: HandlerBinding;
}

/**
 * What the application has changed at run time: which patterns are paused, and which streams were added to them. It is kept
 * when the server is closed, and holds when it listens again; before the first start, patterns are not known yet, so that
 * {@link check} decides about them.
 *
 * Each pattern is paused or not, and the last call that concerns it decides. It changes no consumer.
 */
export class RuntimeControl {
  /** Of every pattern but the exceptions. */
  #isPaused = false;
  readonly #exceptions = new Set<string>();
  #added: readonly AddedStream[] = [];

  isPaused(pattern: string): boolean {
    return this.#isPaused !== this.#exceptions.has(pattern);
  }

  /** @param pattern every pattern when it is undefined */
  setPaused(isPaused: boolean, pattern: string | undefined): void {
    if (pattern === undefined) {
      this.#isPaused = isPaused;
      this.#exceptions.clear();
    } else if (isPaused === this.#isPaused) {
      this.#exceptions.delete(pattern);
    } else {
      this.#exceptions.add(pattern);
    }
  }

  /** Streams that a pattern has in addition to its own. */
  addedTo(pattern: string): readonly string[] {
    return this.#added.filter((added) => added.pattern === pattern).map(({ streamKey }) => streamKey);
  }

  /** Whether the handlers may read the stream, {@link check} finds out. @throws InvalidOptionError */
  add(pattern: string, streamKey: string): void {
    if (this.addedTo(pattern).includes(streamKey)) throw readAlready(streamKey, pattern);
    this.#added = [...this.#added, { pattern, streamKey }];
  }

  /** @throws InvalidOptionError for a stream that was not added to the pattern */
  remove(pattern: string, streamKey: string): void {
    if (!this.addedTo(pattern).includes(streamKey)) {
      const advice = streamKey === pattern ? '; to stop the stream of the pattern itself, pause it' : '';
      throw new InvalidOptionError('streamKey', `must be a stream that was added to '${pattern}'${advice}`, streamKey);
    }
    this.#added = this.#added.filter((added) => added.pattern !== pattern || added.streamKey !== streamKey);
  }

  /** Checks everything against the handlers. @throws InvalidOptionError */
  check(groups: readonly HandlerGroup[], shards: boolean): void {
    const bindings = groups.flatMap((group) => [...group.bindings.values()]);
    const patterns = new Set(bindings.map(({ pattern }) => pattern));
    for (const pattern of [...this.#exceptions, ...this.#added.map((added) => added.pattern)]) {
      if (!patterns.has(pattern)) throw new InvalidOptionError('pattern', 'must have a handler', pattern);
    }
    const isPart = (key: string, of: string): boolean => key === of || (shards && isShardOf(of, key));
    const grouped = bindings.filter(({ mode }) => mode !== 'real-time');
    const others = bindings.filter(({ mode }) => mode === 'real-time');
    for (const [own, added] of [this.#readingOf(grouped), this.#readingOf(others)]) refuseOverlaps(own, added, isPart);
    const [own, added] = this.#readingOf(grouped);
    if (added.length > 0) refuseDeadLetters([...own, ...added], isPart);
  }

  /** The streams of the patterns themselves, and those that were added. */
  #readingOf(bindings: readonly HandlerBinding[]): [own: Reading[], added: Reading[]] {
    const own = bindings.map((binding) => ({ streamKey: binding.streamKey, binding }));
    const added = bindings.flatMap((binding) =>
      this.addedTo(binding.pattern).map((streamKey) => ({ streamKey, binding })),
    );
    return [own, added];
  }
}

/** Whether the key is that of the stream, or of a shard of it. */
type IsPart = (key: string, of: string) => boolean;

/** Two consumers of a group would divide the messages of a stream between them. */
function refuseOverlaps(own: readonly Reading[], added: readonly Reading[], isPart: IsPart): void {
  const reading = [...own];
  for (const one of added) {
    const other = reading.find(
      (known) => isPart(one.streamKey, known.streamKey) || isPart(known.streamKey, one.streamKey),
    );
    if (other) throw readAlready(one.streamKey, other.binding.pattern);
    reading.push(one);
  }
}

/** A failing handler would feed on its own dead letters. The default stream may have a handler of another pattern. */
function refuseDeadLetters(reading: readonly Reading[], isPart: IsPart): void {
  for (const { streamKey, binding } of reading) {
    const { deadLetter } = binding.failurePolicy;
    if (deadLetter === false) continue;
    const target = deadLetter.stream ?? streamKey + DEAD_LETTER_SUFFIX;
    const reader = reading.find((other) => {
      const isConcerned = deadLetter.stream !== undefined || other.binding.pattern === binding.pattern;
      return isConcerned && isPart(target, other.streamKey);
    });
    if (!reader) continue;
    const rule = `must not have the dead letters of '${streamKey}', which '${reader.binding.pattern}' would read`;
    throw new InvalidOptionError('streamKey', `${rule}: failures would feed on themselves`, target);
  }
}

function readAlready(streamKey: string, pattern: string): InvalidOptionError {
  const rule = `must not be read already, as it is, or a shard of it, by the handlers of '${pattern}'`;
  return new InvalidOptionError('streamKey', rule, streamKey);
}
