import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach } from '@jest/globals';
import { build } from 'esbuild';

const NODE_MODULES = fileURLToPath(new URL('../../node_modules', import.meta.url));

/** A running child process with one of the programs of this folder. */
export interface ChildProgram {
  readonly process: ChildProcess;
  /** The exit code, or the signal that ended the process. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/**
 * Returns a function that starts one of the programs next to this module in a child process. The program gets its input
 * as JSON in its argument and writes one JSON value per line. Processes that still run are killed after each test.
 * @param nodeOptions such as `--max-old-space-size=128`
 */
export function useChildProgram<Input, Line>(
  program: string,
  nodeOptions: readonly string[] = [],
): (input: Input, onLine: (line: Line) => void) => Promise<ChildProgram> {
  const running: ChildProgram[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'child-program-'));
  const outfile = join(folder, 'child.mjs');
  let built: Promise<unknown> | undefined;

  afterEach(async () => {
    for (const child of running.splice(0)) {
      child.process.kill('SIGKILL');
      await child.ended;
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  return async (input, onLine) => {
    built ??= compile(program, folder, outfile);
    await built;
    const args = [...nodeOptions, outfile, JSON.stringify(input)];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stdout }).on('line', (line) => onLine(JSON.parse(line) as Line));
    // 'close' comes after the last line has been read; 'exit' may come before it.
    const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | NodeJS.Signals);
    const started = { process: child, ended };
    running.push(started);
    return started;
  };
}

async function compile(program: string, folder: string, outfile: string): Promise<void> {
  symlinkSync(NODE_MODULES, join(folder, 'node_modules'));
  await build({
    entryPoints: [fileURLToPath(new URL(program, import.meta.url))],
    outfile,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    logLevel: 'silent',
  });
}
