import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { freePort } from './free-port.ts';
import { requireServerBinary } from './server-binary.ts';
import { untilAnswering } from './server-probe.ts';

export interface RedisServerOptions {
  /** The program to run. Default: `REDIS_SERVER_BIN`, `redis-server` or `valkey-server`, or a fresh installation. */
  bin?: string;
  /** Appended to the command line; a later setting replaces an earlier one, so these take precedence. */
  args?: readonly string[];
  /**
   * Text of a configuration file, which the server may rewrite; the default persistence arguments are then left out.
   */
  config?: string;
  /** Default: a free port. */
  port?: number;
  /** Default: a temporary directory that is removed with the server. A given directory is kept. */
  dir?: string;
}

type SupervisorEvent = { dir?: string; pid?: number; failed?: string; exit?: string };

const HOST = '127.0.0.1';
const START_LIMIT = 20_000;
/** What a server, or a Sentinel, logs when it has its port. */
const LISTENING = /Ready to accept connections|Sentinel ID is/;
const LOG_INTERVAL = 10;
const DURABLE = ['--save', '', '--appendonly', 'yes', '--appendfsync', 'always'];
const SUPERVISOR = fileURLToPath(new URL('./redis-supervisor.mjs', import.meta.url));

/**
 * A real server for one test, with its own port and directory. A test can kill it, restart it in the same place, and
 * suspend it. Every write reaches the append-only file before its reply, so every write that was confirmed is still
 * there after `kill()` and `restart()`; pass `args` for other persistence. The server is the child of a supervisor
 * process that kills it and removes the directory as soon as this process has exited.
 */
export class RedisServer {
  readonly host = HOST;
  readonly port: number;
  readonly #bin: string;
  readonly #config: string | undefined;
  readonly #supervisor: ChildProcessByStdio<Writable, Readable, null>;
  #args: readonly string[];
  #dir = '';
  #pid: number | undefined;
  #onEvent: (event: SupervisorEvent) => void = () => undefined;
  #exited: Promise<string> = Promise.resolve('never started');
  #onExit: (how: string) => void = () => undefined;

  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const bin = options.bin ?? (await requireServerBinary()).path;
    for (let attempt = 1; ; attempt++) {
      const server = new RedisServer(bin, options.port ?? (await freePort()), options);
      try {
        await server.#untilEvent(({ dir }) => dir !== undefined);
        await server.#launch();
        return server;
      } catch (error) {
        await server.stop();
        // Another process has taken the port since freePort() checked it.
        const isPortTaken = error instanceof Error && /address already in use/i.test(error.message);
        if (!isPortTaken || options.port !== undefined || attempt === 5) throw error;
      }
    }
  }

  private constructor(bin: string, port: number, { args = [], config, dir }: RedisServerOptions) {
    this.#bin = bin;
    this.#config = config;
    this.port = port;
    this.#args = args;
    // In its own session: Ctrl+C then ends only this process, and the end of the pipe makes the supervisor clean up.
    this.#supervisor = spawn(process.execPath, [SUPERVISOR, ...(dir === undefined ? [] : [dir])], {
      detached: true,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#supervisor.stdin.on('error', () => undefined);
    createInterface({ input: this.#supervisor.stdout }).on('line', (line) => this.#handle(JSON.parse(line)));
  }

  get url(): string {
    return `redis://${HOST}:${this.port}`;
  }

  get dir(): string {
    return this.#dir;
  }

  /** The process of the server itself; undefined while it is down. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** The output of the server since its first start. */
  get log(): string {
    return readFileSync(join(this.#dir, 'server.log'), 'utf8');
  }

  /** Resolves when the process has ended. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#pid === undefined) return;
    try {
      this.#signal(signal);
    } catch (error) {
      // The server has just exited by itself; its exit event is about to arrive.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    await this.#exited;
  }

  /** Starts the server on the same port and in the same directory; kills it first if it still runs. */
  async restart(args: readonly string[] = this.#args): Promise<void> {
    await this.kill();
    this.#args = args;
    await this.#launch();
  }

  /** Suspends the process: connections stay open, but the server does not answer. */
  pause(): void {
    this.#signal('SIGSTOP');
  }

  resume(): void {
    this.#signal('SIGCONT');
  }

  /** Kills the server, whatever its state, and removes its directory. */
  async stop(): Promise<void> {
    if (this.#supervisor.exitCode !== null || this.#supervisor.signalCode !== null) return;
    const gone = once(this.#supervisor, 'exit');
    this.#supervisor.stdin.end();
    await gone;
    this.#pid = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #launch(): Promise<void> {
    this.#exited = new Promise((resolve) => (this.#onExit = resolve));
    const logged = existsSync(join(this.#dir, 'server.log')) ? this.log.length : 0;
    const place = ['--port', String(this.port), '--bind', HOST, '--dir', this.#dir];
    const settings = this.#config === undefined ? [...place, ...DURABLE] : [this.#configFile(this.#config), ...place];
    this.#supervisor.stdin.write(`${JSON.stringify([this.#bin, ...settings, ...this.#args])}\n`);
    const { failed } = await this.#untilEvent(({ pid, failed: reason }) => (pid ?? reason) !== undefined);
    if (failed !== undefined) throw new Error(`${this.#bin} cannot be started: ${failed}`);

    const isGone = (): boolean => this.#pid === undefined;
    if ((await untilAnswering(HOST, this.port, START_LIMIT, isGone)) && (await this.#isListening(logged))) return;
    const state = this.#pid === undefined ? `ended with ${await this.#exited}` : `did not answer in ${START_LIMIT} ms`;
    throw new Error(`${this.#bin} ${state}. The end of its log:\n${this.log.split('\n').slice(-20).join('\n')}`);
  }

  /**
   * Whether this server is the one that answers: where two start on one port at the same moment, the one that gets it answers
   * for the other, which ends soon. @param logged length of the log before this start
   */
  async #isListening(logged: number): Promise<boolean> {
    const deadline = Date.now() + START_LIMIT;
    while (this.#pid !== undefined && Date.now() < deadline) {
      if (LISTENING.test(this.log.slice(logged))) return true;
      await pause(LOG_INTERVAL);
    }
    return false;
  }

  /** Written only once, so that changes which the server made to it survive a restart. */
  #configFile(text: string): string {
    const path = join(this.#dir, 'server.conf');
    if (!existsSync(path)) writeFileSync(path, text);
    return path;
  }

  #handle(event: SupervisorEvent): void {
    if (event.dir !== undefined) this.#dir = event.dir;
    if (event.pid !== undefined) this.#pid = event.pid;
    if (event.exit !== undefined) {
      this.#pid = undefined;
      this.#onExit(event.exit);
    }
    this.#onEvent(event);
  }

  #untilEvent(isWanted: (event: SupervisorEvent) => boolean): Promise<SupervisorEvent> {
    return new Promise((resolve, reject) => {
      const onGone = () => reject(new Error('the supervisor of the Redis server ended unexpectedly'));
      this.#supervisor.once('exit', onGone).once('error', reject);
      this.#onEvent = (event) => {
        if (!isWanted(event)) return;
        this.#supervisor.off('exit', onGone).off('error', reject);
        this.#onEvent = () => undefined;
        resolve(event);
      };
    });
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#pid === undefined) throw new Error(`the server on port ${this.port} is down and cannot get ${signal}`);
    process.kill(this.#pid, signal);
  }
}
