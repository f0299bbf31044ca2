import { monotonicNow } from '../../shared/clock.js';
import { pause } from '../../shared/backoff.js';
import type { RedisConnection } from './redis-connection.js';

/** Between two attempts to end a read that was not yet blocked when the first one came. */
const RETRY_DELAY = 5;

/** How long the attempts go on before the read is left to its own BLOCK time. */
const GIVE_UP_AFTER = 2_000;

/**
 * Ends a blocked read at once, by CLIENT UNBLOCK over another connection. Dropping the reading connection instead would
 * let the server hand the next message to a socket that nobody reads.
 */
export class ReadInterrupt {
  readonly #reader: RedisConnection;
  readonly #control: RedisConnection;

  constructor(reader: RedisConnection, control: RedisConnection) {
    this.#reader = reader;
    this.#control = control;
  }

  /** Whether reads can be ended early; if not, they should not block for long. */
  get isPossible(): boolean {
    return this.#reader.clientId !== undefined;
  }

  /** Resolves once a read was ended, or `isOver` says that there is none to end. */
  async interrupt(isOver: () => boolean): Promise<void> {
    const deadline = monotonicNow() + GIVE_UP_AFTER;
    while (!isOver() && monotonicNow() < deadline) {
      const id = this.#reader.clientId;
      const control = this.#control.client;
      if (id === undefined || !control) return;
      try {
        if ((await control.client('UNBLOCK', id)) === 1) return;
      } catch {
        return;
      }
      // The command that we want to end may be on its way still.
      if (!isOver()) await pause(RETRY_DELAY);
    }
  }
}
