import { clearScreenDown, cursorTo, moveCursor } from 'node:readline';

const REFRESH_INTERVAL = 200;

/** Prints lines and, on a terminal, a status of one or more lines below them that is rewritten at an interval. */
export class Screen {
  readonly #out = process.stdout;
  #status: (() => string) | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** How many line breaks the status on the screen has. */
  #drawnBreaks = 0;

  /** Elsewhere a line cannot be rewritten, so no status is shown. */
  get isTerminal(): boolean {
    return this.#out.isTTY;
  }

  say(line: string): void {
    this.#wipe();
    this.#out.write(`${line}\n`);
    this.#draw();
  }

  /** Shows the status until {@link hideStatus}; only on a terminal. */
  showStatus(status: () => string): void {
    if (!this.isTerminal) return;
    this.#status = status;
    this.#timer = setInterval(() => {
      this.#wipe();
      this.#draw();
    }, REFRESH_INTERVAL);
  }

  /** The last status remains as ordinary lines. */
  hideStatus(): void {
    clearInterval(this.#timer);
    if (this.#status === undefined) return;
    this.#wipe();
    this.#out.write(`${this.#status()}\n`);
    this.#status = undefined;
  }

  #wipe(): void {
    if (this.#status === undefined) return;
    moveCursor(this.#out, 0, -this.#drawnBreaks);
    cursorTo(this.#out, 0);
    clearScreenDown(this.#out);
    this.#drawnBreaks = 0;
  }

  /** Lines that wrap or scroll away could not be rewritten. */
  #draw(): void {
    if (this.#status === undefined) return;
    const [rows, columns] = [this.#out.rows || 24, this.#out.columns || 80];
    const lines = this.#status()
      .split('\n')
      .slice(0, rows - 1);
    this.#out.write(lines.map((line) => line.slice(0, columns - 1)).join('\n'));
    this.#drawnBreaks = lines.length - 1;
  }
}
