import { HttpException, HttpStatus, ServiceUnavailableException } from '@nestjs/common';
import type { Client } from './client.js';

/** Requests that work, and requests that wait, of all users. */
const AT_A_TIME = 4;
const MOST_WAITING = 100;
/** Of one user: the others get their turns, however much one asks for. */
const AT_A_TIME_OF_A_USER = 2;
const MOST_WAITING_OF_A_USER = 20;

interface Waiting {
  readonly user: string | null;
  readonly start: () => void;
}

/** Lets a few requests that read much work at a time; the others wait, so that viewers cannot pile up work for Redis. */
export class Turns {
  readonly #running: Array<string | null> = [];
  readonly #waiting: Waiting[] = [];

  /** @throws HttpException when too many wait, in all or of the user, or when the client has gone before its turn */
  async take<T>({ user, signal }: Client, work: () => Promise<T>): Promise<T> {
    signal?.throwIfAborted();
    if (this.#mayRun(user)) this.#running.push(user);
    else await this.#wait(user, signal);
    try {
      signal?.throwIfAborted();
      return await work();
    } finally {
      this.#running.splice(this.#running.indexOf(user), 1);
      this.#startNext();
    }
  }

  #mayRun(user: string | null): boolean {
    if (this.#running.length >= AT_A_TIME) return false;
    return user === null || this.#running.filter((other) => other === user).length < AT_A_TIME_OF_A_USER;
  }

  async #wait(user: string | null, signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.length >= MOST_WAITING) throw new ServiceUnavailableException('Too many searches at a time');
    const own = this.#waiting.filter((other) => user !== null && other.user === user);
    if (own.length >= MOST_WAITING_OF_A_USER) {
      throw new HttpException('Too many searches of this user at a time', HttpStatus.TOO_MANY_REQUESTS);
    }
    await new Promise<void>((start, reject) => {
      const waiting: Waiting = { user, start };
      this.#waiting.push(waiting);
      signal?.addEventListener('abort', () => {
        const index = this.#waiting.indexOf(waiting);
        if (index === -1) return;
        this.#waiting.splice(index, 1);
        reject(signal.reason as Error);
      });
    });
  }

  /** The first one that may run. */
  #startNext(): void {
    const index = this.#waiting.findIndex(({ user }) => this.#mayRun(user));
    const [next] = index === -1 ? [] : this.#waiting.splice(index, 1);
    if (!next) return;
    this.#running.push(next.user);
    next.start();
  }
}
