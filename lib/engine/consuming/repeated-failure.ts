import type { RedisStreamsError } from '../../errors.js';

/** The failure of work that is repeated from time to time. It is reported once, until the work succeeds or fails in another way. */
export class RepeatedFailure {
  readonly #report: (error: RedisStreamsError) => void;
  #code: string | undefined;

  constructor(report: (error: RedisStreamsError) => void) {
    this.#report = report;
  }

  failed(error: RedisStreamsError): void {
    if (error.code !== this.#code) this.#report(error);
    this.#code = error.code;
  }

  succeeded(): void {
    this.#code = undefined;
  }
}
