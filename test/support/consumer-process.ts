import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import type { ConsumerOptions, RedisStreamsConnection } from '../../lib/index.js';

export interface ConsumerChildInput {
  connection: RedisStreamsConnection;
  streamKey: string;
  options: ConsumerOptions;
  /** Number of messages to read. */
  read: number;
  /** Number of messages to acknowledge, from the first one on. */
  ack: number;
  commit: boolean;
  /** Number of further messages to acknowledge after the commit, without another commit. Default 0. */
  ackLate?: number;
}

/** A consumer in a child process, which a test can kill with SIGKILL. */
export interface ConsumerProcess {
  /** The payloads that it read, complete once it has read and acknowledged as many as its input asks for. */
  readonly read: string[];
  /** The delivery counts of these messages. */
  readonly counts: number[];
  /** Sends SIGKILL; resolves when the process has exited. */
  kill(): Promise<void>;
}

/** Resolves when the child has read and acknowledged as its input asks for; from then on the child is idle. */
export async function startConsumerProcess(input: ConsumerChildInput): Promise<ConsumerProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'consumer-process-'));
  try {
    const outfile = join(folder, 'child.cjs');
    const entry = fileURLToPath(new URL('./consumer-child.ts', import.meta.url));
    await build({ entryPoints: [entry], outfile, bundle: true, platform: 'node', format: 'cjs', logLevel: 'silent' });
    const child = spawn(process.execPath, [outfile, JSON.stringify(input)], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    const line = once(createInterface({ input: child.stdout }), 'line').then(([text]) => String(text));
    const text = await Promise.race([line, exited.then(() => undefined)]);
    if (text === undefined)
      throw new Error('the consumer process ended before it had read and acknowledged its messages');
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
