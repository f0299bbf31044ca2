import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll } from '@jest/globals';
import { build } from 'esbuild';
import type { LoadBalancedOptions, RedisStreamsConnection, StreamerOptions } from '../../lib/index.js';
import { until } from './until.js';

export interface BlockingChildInput {
  /** What can be passed as JSON. */
  connection: Exclude<RedisStreamsConnection, () => unknown>;
  streamer?: StreamerOptions;
  streamKey: string;
  options: Omit<LoadBalancedOptions, 'mode' | 'autoCommit'> & { mode: 'load-balanced' };
  /** For how long each message blocks the event loop, in milliseconds. */
  block: number;
  /** Each message waits for {@link BlockingProcess.proceed} before that, with `holds <text>`. */
  isHeld?: boolean;
  /** After so many messages it disconnects. Default: never. */
  reads?: number;
}

/** A consumer in a process of its own, which handles one message after the other and blocks its event loop in the meantime. */
export interface BlockingProcess {
  readonly pid: number;
  /** `ready`, `begins <text>`, `ends <text>`, `error <message>`, `closed`, `failed <error>`. */
  readonly lines: readonly string[];
  /** Resolves when it has printed the line. */
  saw(line: string): Promise<void>;
  proceed(): void;
  kill(signal: NodeJS.Signals): void;
  /** Resolves with its exit code. */
  readonly exited: Promise<number | null>;
}

/** Starts such processes from a bundle of one file with shortened names, and ends those that still run after each test. */
export function useBlockingProcesses(): (input: BlockingChildInput, flags?: readonly string[]) => BlockingProcess {
  const folder = mkdtempSync(join(tmpdir(), 'blocking-process-'));
  const outfile = join(folder, 'child.cjs');
  const running = new Set<BlockingProcess>();

  beforeAll(async () => {
    const entry = fileURLToPath(new URL('./blocking-child.ts', import.meta.url));
    const shortened = { minify: true, keepNames: true } as const;
    await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', logLevel: 'silent', ...shortened });
  });
  afterEach(async () => {
    for (const child of running) child.kill('SIGKILL');
    await Promise.all([...running].map(({ exited }) => exited));
    running.clear();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  return (input, flags = []) => {
    const args = [...flags, outfile, JSON.stringify(input)];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const lines: string[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => lines.push(line));
    const started: BlockingProcess = {
      pid: child.pid as number,
      lines,
      saw: (line) => until(`the process prints '${line}'`, () => lines.includes(line), 30_000),
      proceed: () => void child.stdin.write('proceed\n'),
      kill: (signal) => void child.kill(signal),
      exited: once(child, 'exit').then(([code]) => code as number | null),
    };
    running.add(started);
    return started;
  };
}
