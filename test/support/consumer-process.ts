import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { ConsumerOptions } from '../../lib/index.js';

export interface ChildOrders {
  url: string;
  streamKey: string;
  options: ConsumerOptions;
  /** How many messages to read. */
  read: number;
  /** How many of them, the first ones, to acknowledge. */
  ack: number;
  commit: boolean;
  /** How many of the others to acknowledge afterwards, without a commit. Default none. */
  ackLate?: number;
}

/** A consumer in a process of its own, that can be killed as the system kills a process. */
export interface ConsumerProcess {
  /** What it has read, once it has read and acknowledged all that it was told to. */
  readonly read: string[];
  /** The delivery count of each. */
  readonly counts: number[];
  /** SIGKILL; resolves when the process is gone. */
  kill(): Promise<void>;
}

/** Resolves when the child has done its orders; from then on it only stays. */
export async function startConsumerProcess(orders: ChildOrders): Promise<ConsumerProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'consumer-process-'));
  try {
    const outfile = join(folder, 'child.cjs');
    const entry = fileURLToPath(new URL('./consumer-child.ts', import.meta.url));
    await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'cjs', logLevel: 'silent' });
    const child = spawn(process.execPath, [outfile, JSON.stringify(orders)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const line = once(createInterface({ input: child.stdout }), 'line').then(([text]) => String(text));
    const text = await Promise.race([line, exited.then(() => undefined)]);
    if (text === undefined) throw new Error('the consumer process ended before it had done its orders');
    return {
      ...(JSON.parse(text) as Pick<ConsumerProcess, 'read' | 'counts'>),
      async kill() {
        child.kill('SIGKILL');
        await exited;
      },
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
