import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsLogger } from '../../shared/logger.js';
import { InvalidOptionError } from '../../errors.js';
import { classifyRedisError, isTransient } from '../../redis/commands/redis-error.js';
import type { PauseCommands, PausedGroup } from '../../redis/commands/stream-commands.js';

/** Milliseconds between two looks: every instance of a group must heed a pause within two seconds. */
const INTERVAL = 1_500;

/** The view of one consumer on whether its group is paused on a stream. */
export interface PauseWatch {
  readonly isPaused: boolean;
  /** Resolves when the first look that succeeds is over. @throws an error of Redis that may pass */
  known(): Promise<void>;
  end(): void;
}

interface Watched extends PausedGroup {
  isPaused: boolean;
  isRefused: boolean;
  readonly listeners: Set<() => void>;
  known: Promise<void> | undefined;
}

/**
 * Knows which groups are paused on which streams: a key beside the stream exists while one is. It looks every 1.5 seconds at
 * the keys of all consumers of its streamer together, with one write to each node, so that many consumers cost no more than
 * one; without consumers it has no timer.
 *
 * A look that fails changes nothing: through an outage a paused group stays paused, and the others read. Where the user may
 * not read the key, no group counts as paused.
 */
export class GroupPauses {
  readonly #commands: PauseCommands;
  readonly #logger: Pick<Required<RedisStreamsLogger>, 'log' | 'debug'>;
  readonly #watched = new Map<string, Watched>();
  /** Nodes that have not answered the last look yet. */
  readonly #asking = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(commands: PauseCommands, logger: Pick<Required<RedisStreamsLogger>, 'log' | 'debug'>) {
    this.#commands = commands;
    this.#logger = logger;
  }

  /** @param onChange is called when the group is paused or resumed after the first look */
  watch(streamKey: string, group: string, onChange: () => void): PauseWatch {
    const name = JSON.stringify([streamKey, group]);
    const watched = this.#watched.get(name) ?? {
      streamKey,
      group,
      isPaused: false,
      isRefused: false,
      listeners: new Set(),
      known: undefined,
    };
    this.#watched.set(name, watched);
    watched.listeners.add(onChange);
    this.#timer ??= setInterval(() => this.#lookAtAll(), INTERVAL);
    return {
      get isPaused() {
        return watched.isPaused;
      },
      known: () => this.#firstLook(watched),
      end: () => {
        watched.listeners.delete(onChange);
        if (watched.listeners.size > 0 || this.#watched.get(name) !== watched) return;
        this.#watched.delete(name);
        if (this.#watched.size > 0) return;
        clearInterval(this.#timer);
        this.#timer = undefined;
      },
    };
  }

  #firstLook(watched: Watched): Promise<void> {
    watched.known ??= this.#look([watched]).catch((error: unknown) => {
      // The next call may find out what this one could not.
      watched.known = undefined;
      throw error;
    });
    return watched.known;
  }

  #lookAtAll(): void {
    const byNode = new Map<string, Watched[]>();
    for (const watched of this.#watched.values()) {
      if (watched.isRefused || !watched.known) continue;
      const node = this.#commands.nodeOf(watched);
      byNode.set(node, [...(byNode.get(node) ?? []), watched]);
    }
    // A node that stands still holds up no other.
    for (const [node, watched] of byNode) if (!this.#asking.has(node)) void this.#lookAtNode(node, watched);
  }

  /** Never rejects. */
  async #lookAtNode(node: string, watched: readonly Watched[]): Promise<void> {
    this.#asking.add(node);
    try {
      await this.#look(watched);
    } catch (error) {
      this.#logger.debug(`Looking for paused groups failed: ${errorText(error)}`);
    }
    this.#asking.delete(node);
  }

  /** @throws the first error that may pass, after all answers are noted */
  async #look(watched: readonly Watched[]): Promise<void> {
    const answers = await this.#commands.arePaused(watched);
    let failure: Error | undefined;
    for (const [index, group] of watched.entries()) {
      const answer = answers[index] as boolean | Error;
      if (answer instanceof Error) failure ??= this.#failed(group, answer);
      else this.#note(group, answer);
    }
    if (failure) throw failure;
  }

  #note(watched: Watched, isPaused: boolean): void {
    if (watched.isPaused === isPaused) return;
    watched.isPaused = isPaused;
    const { group, streamKey } = watched;
    this.#logger.log(`Group '${group}' is ${isPaused ? 'paused' : 'no longer paused'} on '${streamKey}'`);
    for (const listener of watched.listeners) listener();
  }

  /** Returns the error if it may pass. */
  #failed(watched: Watched, error: Error): Error | undefined {
    if (!(error instanceof InvalidOptionError) && isTransient(classifyRedisError(error))) return error;
    watched.isRefused = true;
    const { group, streamKey } = watched;
    this.#logger.debug(`Pauses of group '${group}' on '${streamKey}' are not looked for: ${errorText(error)}`);
    return undefined;
  }
}
