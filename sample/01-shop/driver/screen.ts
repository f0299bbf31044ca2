import { clearLine, cursorTo } from 'node:readline';

const REFRESH_INTERVAL = 200;

/** Prints lines and, on a terminal, one status line below them that is rewritten at an interval. */
export class Screen {
  readonly #out = process.stdout;
  #status: (() => string) | undefined;
  #timer: NodeJS.Timeout | undefined;

  say(line: string): void {
    this.#wipe();
    this.#out.write(`${line}\n`);
    this.#draw();
  }

  /** Shows the status until {@link hideStatus}; only on a terminal, because elsewhere a line cannot be rewritten. */
  showStatus(status: () => string): void {
    if (!this.#out.isTTY) return;
    this.#status = status;
    this.#timer = setInterval(() => {
      this.#wipe();
      this.#draw();
    }, REFRESH_INTERVAL);
  }

  /** The last status remains as an ordinary line. */
  hideStatus(): void {
    clearInterval(this.#timer);
    if (this.#status === undefined) return;
    this.#wipe();
    this.#out.write(`${this.#status()}\n`);
    this.#status = undefined;
  }

  #wipe(): void {
    if (this.#status === undefined) return;
    cursorTo(this.#out, 0);
    clearLine(this.#out, 0);
  }

  /** A line that wraps could not be rewritten. */
  #draw(): void {
    if (this.#status !== undefined) this.#out.write(this.#status().slice(0, (this.#out.columns || 80) - 1));
  }
}
