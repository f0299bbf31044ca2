import { SingleBar } from 'cli-progress';
import { counted, readableBytes } from './numbers.js';
import type { Output } from './output.js';
import { readableDuration } from './time.js';

/** Milliseconds between two updates of the bar at a terminal, and between two lines elsewhere. */
const BAR_INTERVAL = 200;
const LINE_INTERVAL = 5_000;

const FORMAT = '{verb} [{bar}] {percentage}% | {value}/{total} messages | {rate} | {bytes} | {left} left';

/**
 * How far a long command has come: a bar on the standard error at a terminal, else a line from time to time. It counts until
 * {@link end}, which must be called.
 */
export class Progress {
  readonly #output: Output;
  readonly #verb: string;
  readonly #total: number;
  readonly #started = performance.now();
  readonly #bar: SingleBar | undefined;
  readonly #timer: NodeJS.Timeout;
  #messages = 0;
  #bytes = 0;

  /** @param total expected messages; 0 if unknown */
  constructor(output: Output, verb: string, total: number) {
    this.#output = output;
    this.#verb = verb;
    this.#total = total;
    if (process.stderr.isTTY && total > 0) {
      this.#bar = new SingleBar({ format: FORMAT, stream: process.stderr, hideCursor: null, barsize: 20 });
      this.#bar.start(total, 0, this.#numbers());
    }
    this.#timer = setInterval(() => this.#show(), this.#bar ? BAR_INTERVAL : LINE_INTERVAL);
  }

  add(messages: number, bytes: number): void {
    this.#messages += messages;
    this.#bytes += bytes;
  }

  end(): void {
    clearInterval(this.#timer);
    if (!this.#bar) return;
    this.#show();
    this.#bar.stop();
  }

  /** For the last line: `120,000 messages, 12 MiB, 3 s, 40,000/s`. @param size of the file in bytes, if known */
  summaryWith(size: number | undefined): string {
    const { rate, taken } = this.#numbers();
    const parts = [counted(this.#messages, 'message'), readableBytes(size), taken, rate];
    return parts.filter((part) => part !== undefined).join(', ');
  }

  #show(): void {
    if (this.#bar) {
      // Messages that were appended since the start are counted as well.
      this.#bar.setTotal(Math.max(this.#total, this.#messages));
      this.#bar.update(this.#messages, this.#numbers());
      return;
    }
    const { rate, bytes, left } = this.#numbers();
    const of = this.#total > 0 ? ` of ${this.#total.toLocaleString('en')}` : '';
    const rest = this.#total > 0 ? `, ${left} left` : '';
    void this.#output.note(
      `${this.#verb} ${this.#messages.toLocaleString('en')}${of} messages, ${rate}, ${bytes}${rest}`,
    );
  }

  #numbers(): { verb: string; rate: string; bytes: string; left: string; taken: string } {
    const taken = performance.now() - this.#started;
    const perSecond = (this.#messages / Math.max(1, taken)) * 1_000;
    const left = perSecond > 0 ? (Math.max(0, this.#total - this.#messages) / perSecond) * 1_000 : undefined;
    return {
      verb: this.#verb,
      rate: `${Math.round(perSecond).toLocaleString('en')}/s`,
      bytes: readableBytes(this.#bytes) ?? '',
      left: left === undefined ? '?' : readableDuration(left),
      taken: readableDuration(taken),
    };
  }
}
