import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

import type { Answer, ConsumerReport, ConsumerSetting, Move, Question } from './consumer-setting.js';

/** A consumer in a process of its own. It answers one question at a time. */
export class ConsumerProcess {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #answered: ((report: ConsumerReport) => void) | undefined;

  private constructor(setting: ConsumerSetting, onMove: (move: Move) => void) {
    const program = fileURLToPath(new URL('consumer.js', import.meta.url));
    this.#child = fork(program, [JSON.stringify(setting)]);
    this.#exited = once(this.#child, 'exit');
    this.#child.on('message', (message) => {
      const answer = message as Answer;
      if ('move' in answer) onMove(answer.move);
      else this.#answered?.(answer.report);
    });
  }

  /** Resolves when the process has its connections. */
  static async start(
    setting: ConsumerSetting,
    onMove: (move: Move) => void = () => undefined,
  ): Promise<ConsumerProcess> {
    const started = new ConsumerProcess(setting, onMove);
    await started.#answer();
    return started;
  }

  /** Creates the consumer, which takes messages at once. */
  async open(): Promise<void> {
    await this.#ask('open');
  }

  /** Lets messages wait until {@link resume}, but for those that are in its buffer. */
  async hold(): Promise<void> {
    await this.#ask('hold');
  }

  async resume(): Promise<void> {
    await this.#ask('start');
  }

  async reset(): Promise<void> {
    await this.#ask('reset');
  }

  report(): Promise<ConsumerReport> {
    return this.#ask('report');
  }

  async end(): Promise<void> {
    this.#child.send('end' satisfies Question);
    await this.#exited;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  #ask(question: Question): Promise<ConsumerReport> {
    const answer = this.#answer();
    this.#child.send(question);
    return answer;
  }

  async #answer(): Promise<ConsumerReport> {
    const answered = new Promise<ConsumerReport>((resolve) => (this.#answered = resolve));
    const exited = this.#exited.then(() =>
      Promise.reject(new Error('a consumer process ended before it had answered')),
    );
    return Promise.race([answered, exited]);
  }
}
