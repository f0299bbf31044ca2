import { pause } from '../../shared/backoff.js';
import { monotonicNow } from '../../shared/clock.js';
import type { CommandChannel } from '../wire/command-channel.js';

/** The connection whose reads are ended. */
interface InterruptibleReader {
  readonly clientId: number | undefined;
}

/** Between two attempts to end a read that was not blocked yet when the first one arrived. */
const RETRY_DELAY = 5;

/** Limit of the attempts; after it the read is left to its own BLOCK time. */
const GIVE_UP_AFTER = 2_000;

/**
 * Ends a blocked read at once, by CLIENT UNBLOCK over another connection. Dropping the reading connection instead would let
 * the server hand the next message to a socket that is not read any more.
 */
export class ReadInterrupt {
  readonly #reader: InterruptibleReader;
  readonly #control: () => CommandChannel | undefined;

  /** @param control the channel that does not block to the reader's node, when it is live */
  constructor(reader: InterruptibleReader, control: () => CommandChannel | undefined) {
    this.#reader = reader;
    this.#control = control;
  }

  /** Whether reads can be ended early; if not, they should not block for long. */
  get isPossible(): boolean {
    return this.#reader.clientId !== undefined;
  }

  /** Resolves once a read was ended, or `isOver` returns true because there is none to end. */
  async interrupt(isOver: () => boolean): Promise<void> {
    const deadline = monotonicNow() + GIVE_UP_AFTER;
    while (!isOver() && monotonicNow() < deadline) {
      const id = this.#reader.clientId;
      const control = id === undefined ? undefined : this.#control();
      if (id === undefined || !control) return;
      try {
        if ((await control.command(['CLIENT', 'UNBLOCK', id], 'utf8')) === 1) return;
      } catch {
        return;
      }
      // The command that we want to end may still be on its way.
      if (!isOver()) await pause(RETRY_DELAY);
    }
  }
}
