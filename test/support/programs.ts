import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import type { Readable } from 'node:stream';
import { afterEach } from '@jest/globals';

import { until } from './until.js';

/** Milliseconds, for a program that starts while both cores are busy. */
const LIMIT = 60_000;

/** A program in a process of its own, and what it has printed so far. */
export class Program {
  /** The exit code, or the signal that ended the process. */
  readonly ended: Promise<number | NodeJS.Signals>;
  readonly #name: string;
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;
  #output = '';
  #isOver = false;

  constructor(command: string, args: readonly string[], options: { env?: NodeJS.ProcessEnv; cwd?: string } = {}) {
    this.#name = [command, ...args].join(' ');
    this.#child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => (this.#output += text));
    }
    this.ended = once(this.#child, 'close').then(([code, signal]) => {
      this.#isOver = true;
      return (code ?? signal) as number | NodeJS.Signals;
    });
  }

  /** Both outputs of the process. */
  get output(): string {
    return this.#output;
  }

  async untilPrinted(text: string): Promise<void> {
    await until(`${this.#name} prints ${text}`, () => this.#isOver || this.#output.includes(text), LIMIT);
    if (!this.#output.includes(text)) throw new Error(`${this.#name} ended without "${text}":\n${this.#output}`);
  }

  /** @throws an error with what the program has printed, if it still runs after so many milliseconds */
  async untilEnded(limit: number): Promise<void> {
    await until(`${this.#name} has ended`, () => this.#isOver, limit).catch((error: Error) => {
      throw new Error(`${error.message}:\n${this.#output}`);
    });
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal);
    await this.ended;
  }
}

/** Returns a function that starts a program; those that still run are killed after the test. */
export function usePrograms(): (...args: ConstructorParameters<typeof Program>) => Program {
  const started: Program[] = [];
  afterEach(async () => {
    await Promise.all(started.splice(0).map((program) => program.kill('SIGKILL')));
  });
  return (...args) => {
    const program = new Program(...args);
    started.push(program);
    return program;
  };
}
