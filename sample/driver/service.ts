import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** One line that a service logged about itself. */
export interface ServiceEvent {
  readonly event: string;
  readonly [detail: string]: unknown;
}

export interface ServiceOptions {
  /** Name of the process, for example `orders-2`. */
  readonly name: string;
  /** The compiled file, in the folder of a sample. */
  readonly program: URL;
  readonly env: Readonly<Record<string, string>>;
  readonly onEvent: (event: ServiceEvent) => void;
  /** Called with any other line that it prints: Nest's warnings and errors. */
  readonly onText: (line: string) => void;
}

const STOP_LIMIT = 15_000;

/** One service of a sample, in a process of its own. */
export class Service {
  readonly name: string;
  /** Resolves with the signal or exit code once the process has ended and its last line was read. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ready: Promise<ServiceEvent>;

  constructor({ name, program, env, onEvent, onText }: ServiceOptions) {
    this.name = name;
    // By the place of the program: a test runs this file itself from its source.
    const exitWithParent = new URL('../driver/exit-with-parent.js', program).href;
    const entry = fileURLToPath(program);
    this.#child = spawn(process.execPath, ['--enable-source-maps', '--import', exitWithParent, entry], {
      env: { ...process.env, ...env, INSTANCE: name, PORT: '0' },
      stdio: ['pipe', 'pipe', 'pipe'],
      // Its own session: Ctrl-C reaches only the driver, which then stops the services gracefully.
      detached: true,
    });
    this.#child.stdin.on('error', () => undefined);
    this.ended = once(this.#child, 'close').then(([code, signal]) => String(signal ?? `code ${code}`));
    this.#ready = new Promise((resolve, reject) => {
      const handle = (line: string): void => {
        const event = parseEvent(line);
        if (!event) onText(line);
        else if (event.event === 'ready') resolve(event);
        else onEvent(event);
      };
      createInterface({ input: this.#child.stdout }).on('line', handle);
      createInterface({ input: this.#child.stderr }).on('line', onText);
      this.ended.then((how) => reject(new Error(`${name} ended with ${how} before it was ready`)), reject);
    });
    this.#ready.catch(() => undefined);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resolves with the event that the service logs when it is ready; it may hold the port. */
  ready(): Promise<ServiceEvent> {
    return this.#ready;
  }

  /** SIGKILL: the service can neither finish its work nor log. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** SIGTERM: the service finishes what it is handling. False when it had to be killed. */
  async stop(): Promise<boolean> {
    this.#child.kill('SIGTERM');
    const limit = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT);
    const how = await this.ended;
    clearTimeout(limit);
    return how !== 'SIGKILL';
  }
}

function parseEvent(line: string): ServiceEvent | undefined {
  if (!line.startsWith('{"event":')) return undefined;
  try {
    return JSON.parse(line) as ServiceEvent;
  } catch {
    // The end of a process that was killed in the middle of a line.
    return undefined;
  }
}
