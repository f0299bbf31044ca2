import type { Socket } from 'node:net';
import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';

import { RespFraming } from './resp-framing.ts';
import type { FramingByte } from './resp-framing.ts';
import type { SeededRandom } from './seeded-random.ts';

/** How a connection passes bytes while nothing breaks; each is a probability for a piece. */
export interface Manner {
  /** It ends anywhere in the bytes that wait, not at their end. */
  readonly split: number;
  /** It consists of one to three bytes, and so do the next ones. */
  readonly tiny: number;
  /** It waits up to 20 ms. */
  readonly delay: number;
  /** It waits up to 600 ms, which is less than any reply timeout of the test. */
  readonly hiccup: number;
}

export const UNCHANGED: Manner = Object.freeze({ split: 0, tiny: 0, delay: 0, hiccup: 0 });

/** Most tiny pieces in a row: a page of 200 KB must not take as many turns of the event loop. */
const TINY_RUN = 48;
const MAX_DELAY = 20;
const MAX_HICCUP = 600;
/** Bytes that wait from which on the source is paused. */
const FULL = 1024 * 1024;

export interface FlowOptions {
  readonly source: Socket;
  readonly target: Socket;
  readonly random: SeededRandom;
  manner: Manner;
  /**
   * Called before a piece is passed. Returns the piece to pass, possibly another one, or undefined when the flow must pass
   * nothing more.
   */
  onPiece(piece: Buffer): Buffer | undefined;
  onPassed(bytes: number): void;
}

/**
 * One direction of a connection through a {@link FuzzProxy}. It owns the bytes that have arrived and not been passed, and
 * passes them in order, in pieces that have nothing to do with the chunks in which they arrived.
 *
 * A flow runs, is held (bytes arrive and wait), or is ended (bytes are dropped).
 */
export class FuzzFlow {
  readonly #options: FlowOptions;
  readonly #framing = new RespFraming();
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #tinyLeft = 0;
  #isRunning = false;
  #isHeld = false;
  #isEnded = false;

  constructor(options: FlowOptions) {
    this.#options = options;
    options.source.on('data', (chunk: Buffer) => this.#push(chunk));
  }

  get isEmpty(): boolean {
    return this.#waitingBytes === 0;
  }

  set manner(manner: Manner) {
    this.#options.manner = manner;
  }

  /** The framing bytes of the next piece, which must be the piece that is about to be passed. */
  framingOf(piece: Buffer, wantsBytes: boolean): FramingByte[] {
    return this.#framing.read(piece, wantsBytes);
  }

  hold(): void {
    this.#isHeld = true;
  }

  end(): void {
    this.#isEnded = true;
    this.#waiting = [];
    this.#waitingBytes = 0;
    this.#options.source.resume();
  }

  /** Passes what waits in one piece, as it arrived, and ends the flow. */
  flush(): void {
    const { target } = this.#options;
    const rest = Buffer.concat(this.#waiting);
    if (rest.length > 0 && target.writable) target.write(rest);
    this.end();
  }

  #push(chunk: Buffer): void {
    if (this.#isEnded) return;
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes > FULL) this.#options.source.pause();
    if (!this.#isRunning) void this.#run();
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waitingBytes > 0 && !this.#isHeld) {
      await this.#wait();
      if (this.#isEnded || this.#isHeld) break;
      const piece = this.#options.onPiece(this.#take());
      if (!piece) break;
      await this.#pass(piece);
    }
    this.#isRunning = false;
  }

  async #wait(): Promise<void> {
    const { random, manner } = this.#options;
    if (random.isTrue(manner.hiccup)) await pause(random.integer(100, MAX_HICCUP));
    else if (random.isTrue(manner.delay)) await pause(random.integer(1, MAX_DELAY));
    // Without a turn between two pieces the peer would receive them as one.
    else await nextTurn();
  }

  #take(): Buffer {
    const { random, manner, source } = this.#options;
    const bytes = this.#waiting.length === 1 ? (this.#waiting[0] as Buffer) : Buffer.concat(this.#waiting);
    if (this.#tinyLeft === 0 && random.isTrue(manner.tiny)) this.#tinyLeft = random.integer(1, TINY_RUN);
    let size = bytes.length;
    if (this.#tinyLeft > 0) {
      this.#tinyLeft -= 1;
      size = Math.min(size, random.integer(1, 3));
    } else if (random.isTrue(manner.split)) {
      size = random.integer(1, size);
    }
    const rest = bytes.subarray(size);
    this.#waiting = rest.length > 0 ? [rest] : [];
    this.#waitingBytes = rest.length;
    if (rest.length < FULL / 4) source.resume();
    return bytes.subarray(0, size);
  }

  async #pass(piece: Buffer): Promise<void> {
    const { target, onPassed } = this.#options;
    if (!target.writable) return;
    onPassed(piece.length);
    if (target.write(piece)) return;
    await new Promise<void>((resolve) => {
      const onOver = (): void => {
        target.off('drain', onOver).off('close', onOver);
        resolve();
      };
      target.on('drain', onOver).on('close', onOver);
    });
  }
}
