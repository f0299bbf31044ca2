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

/** A program of this folder in a process of its own. */
export interface ChildProgram {
  readonly process: ChildProcess;
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>;
}

/**
 * Lets a test file start one of the programs beside this module, which is given its orders as JSON and says what it has to
 * say as a line of JSON each. Processes that are left end with the test.
 * @param nodeOptions such as `--max-old-space-size=128`
 */
export function useChildProgram<Orders, Line>(
  program: string,
  nodeOptions: readonly string[] = [],
): (orders: Orders, onLine: (line: Line) => void) => Promise<ChildProgram> {
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

  return async (orders, onLine) => {
    built ??= compile(program, folder, outfile);
    await built;
    const args = [...nodeOptions, outfile, JSON.stringify(orders)];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.on('error', () => undefined);
    createInterface({ input: child.stdout }).on('line', (line) => onLine(JSON.parse(line) as Line));
    // What it said last has been read by then.
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
