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
  /** Of the process, such as `orders-2`. */
  readonly name: string;
  /** Its program beside this folder, such as `orders`. */
  readonly program: string;
  readonly env: Readonly<Record<string, string>>;
  readonly onEvent: (event: ServiceEvent) => void;
  /** Anything else that it printed: Nest's warnings and errors. */
  readonly onText: (line: string) => void;
}

const STOP_LIMIT = 15_000;

/** One service of the shop, as a process of its own. */
export class Service {
  readonly name: string;
  /** Resolves once it has ended and its last line was read; says how it ended. */
  readonly ended: Promise<string>;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #ready: Promise<ServiceEvent>;

  constructor({ name, program, env, onEvent, onText }: ServiceOptions) {
    this.name = name;
    const exitWithParent = new URL('./exit-with-parent.js', import.meta.url).href;
    const entry = fileURLToPath(new URL(`../${program}.js`, import.meta.url));
    this.#child = spawn(process.execPath, ['--enable-source-maps', '--import', exitWithParent, entry], {
      env: { ...process.env, ...env, INSTANCE: name, PORT: '0' },
      stdio: ['pipe', 'pipe', 'pipe'],
      // In a session of its own, Ctrl-C reaches the driver alone, which then stops the services in good order.
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

  /** What it said when it was ready, such as its port. */
  ready(): Promise<ServiceEvent> {
    return this.#ready;
  }

  /** As the system kills a process: nothing can be finished or said. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.ended;
  }

  /** SIGTERM, on which a service finishes what it has begun. False when it had to be killed. */
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
