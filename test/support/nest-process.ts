import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach } from '@jest/globals';
import { build } from 'esbuild';

import type { HandlerExtras, ServerRedisStreamsOptions } from '../../lib/index.js';
import { until } from './until.js';

export interface NestChildInput {
  pattern: string;
  options: ServerRedisStreamsOptions;
  /** Settings of the handler. */
  extras?: HandlerExtras;
  /** Disables the log of the service, for tests in which it fails on purpose. */
  isSilent?: boolean;
}

/** An event that a service reports, one per line. */
export interface ChildEvent {
  listening?: boolean;
  started?: number;
  /** The id of the entry that a handler received. */
  id?: string;
  deliveryCount?: number;
  done?: number;
  /** The code of an error that the server has reported. */
  error?: string;
}

/** A Nest microservice in a child process, which a test can kill with a signal. */
export interface NestProcess {
  /** The events reported so far. */
  readonly events: readonly ChildEvent[];
  /** The exit code, or the signal that ended the process. */
  readonly ended: Promise<number | NodeJS.Signals>;
  kill(signal: NodeJS.Signals): void;
}

const START_LIMIT = 20_000;
const NODE_MODULES = fileURLToPath(new URL('../../node_modules', import.meta.url));

/**
 * Returns a function that starts a service and passes its events to `onEvent`; services that still run are killed after
 * the test.
 */
export function useNestProcesses(): (
  input: NestChildInput,
  onEvent?: (event: ChildEvent) => void,
) => Promise<NestProcess> {
  const running: NestProcess[] = [];
  const folder = mkdtempSync(join(tmpdir(), 'nest-process-'));
  const outfile = join(folder, 'child.mjs');
  let built: Promise<unknown> | undefined;

  afterEach(async () => {
    for (const service of running.splice(0)) {
      service.kill('SIGKILL');
      await service.ended;
    }
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  return async (input, onEvent) => {
    built ??= compile(folder, outfile);
    await built;
    const child = spawn(process.execPath, [outfile, JSON.stringify(input)], { stdio: ['pipe', 'pipe', 'inherit'] });
    const events: ChildEvent[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => {
      const event = JSON.parse(line) as ChildEvent;
      events.push(event);
      onEvent?.(event);
    });
    let isOver = false;
    const ended = once(child, 'close').then(([code, signal]) => {
      isOver = true;
      return (code ?? signal) as number | NodeJS.Signals;
    });
    const service: NestProcess = { events, ended, kill: (signal) => void child.kill(signal) };
    running.push(service);
    await until('the service listens', () => isOver || events.some(({ listening }) => listening), START_LIMIT);
    return service;
  };
}

async function compile(folder: string, outfile: string): Promise<void> {
  symlinkSync(NODE_MODULES, join(folder, 'node_modules'));
  const entry = fileURLToPath(new URL('./nest-child.ts', import.meta.url));
  await build({
    entryPoints: [entry],
    outfile,
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    logLevel: 'silent',
  });
}
