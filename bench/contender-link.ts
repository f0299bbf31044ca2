import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

import type { Answer, Orders, Request } from './contender-process.js';
import type { Measures } from './statistics.js';

/** Milliseconds; a contender without an answer for this time hangs, or waits for a message that was lost. */
const PATIENCE = 180_000;
const PROGRAM = new URL('./contender-process.js', import.meta.url);

/** What a round measured, and the latency of each message where it is timed. */
interface Round {
  readonly measures: Measures;
  readonly latencies: readonly number[];
}

/** The parent's side of a contender's process. It handles one request at a time. */
export class ContenderLink {
  readonly #name: string;
  readonly #process: ChildProcess;
  #peakMemory = 0;
  #heap = 0;

  private constructor(orders: Orders) {
    const { row, entrant, side, env } = orders;
    this.#name = [row, entrant, ...(side === undefined ? [] : [side])].join(', ');
    this.#process = fork(PROGRAM, [JSON.stringify(orders)], {
      execArgv: ['--expose-gc'],
      env: { ...process.env, ...env },
    });
  }

  /** Resolves when the contender is ready for its first round. */
  static async start(orders: Orders): Promise<ContenderLink> {
    const link = new ContenderLink(orders);
    try {
      await link.#answer();
    } catch (error) {
      link.kill();
      throw error;
    }
    return link;
  }

  /** The highest resident memory at the end of a round, in bytes. */
  get peakMemory(): number {
    return this.#peakMemory;
  }

  /** Bytes of the heap and its buffers after all rounds and a collection of the garbage; 0 before it is closed. */
  get heap(): number {
    return this.#heap;
  }

  async round(): Promise<Round> {
    const { measures = {}, latencies = [], memory = 0 } = await this.#ask('round');
    this.#peakMemory = Math.max(this.#peakMemory, memory);
    return { measures, latencies };
  }

  async close(): Promise<void> {
    const { heap = 0 } = await this.#ask('close');
    this.#heap = heap;
    const gone = once(this.#process, 'exit');
    this.#process.disconnect();
    await gone;
  }

  /** Kills the process, after it or its row has failed. */
  kill(): void {
    this.#process.kill('SIGKILL');
  }

  #ask(request: Request): Promise<Answer> {
    this.#process.send(request);
    return this.#answer();
  }

  async #answer(): Promise<Answer> {
    const settled = new AbortController();
    const { signal } = settled;
    let isLate = false;
    const limit = setTimeout(() => {
      isLate = true;
      this.kill();
    }, PATIENCE);
    try {
      const answered = once(this.#process, 'message', { signal }) as Promise<[Answer]>;
      const ended = once(this.#process, 'exit', { signal }).then(([code, killer]) => {
        throw new Error(isLate ? `no answer in ${PATIENCE} ms` : `its process ended with ${String(code ?? killer)}`);
      });
      const [answer] = await Promise.race([answered, ended]);
      if (answer.failure !== undefined) throw new Error(answer.failure);
      return answer;
    } catch (error) {
      throw new Error(`${this.#name}: ${(error as Error).message}`, { cause: error });
    } finally {
      clearTimeout(limit);
      settled.abort();
    }
  }
}
