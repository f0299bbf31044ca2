import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

import type { ProcessCost } from '../row.js';

/**
 * The program of a peer. It prints a line when it is ready, does a round for each line of its input, prints what the
 * round took as JSON, and ends with its input.
 */
export class PeerProcess {
  readonly #program: string;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #ended: Promise<unknown>;

  private constructor(program: string, args: readonly string[]) {
    this.#program = program;
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#ended = once(this.#child, 'exit').catch(() => undefined);
    // The end of the output says that the program has ended.
    this.#child.stdin.on('error', () => undefined);
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async start(program: string, args: readonly string[]): Promise<PeerProcess> {
    const peer = new PeerProcess(program, args);
    await peer.#line();
    return peer;
  }

  async round(): Promise<ProcessCost> {
    this.#child.stdin.write('round\n');
    return JSON.parse(await this.#line()) as ProcessCost;
  }

  async close(): Promise<void> {
    this.#child.stdin.end();
    await this.#ended;
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`${this.#program} has ended`);
    return value;
  }
}
