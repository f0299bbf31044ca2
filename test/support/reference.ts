import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterEach } from '@jest/globals';

import { redisUrl } from './redis.js';

/** A message or a receipt as the reference has it. */
export interface ReferenceMessage {
  readonly streamKey: string;
  readonly shardId: string;
  readonly sequence: string;
  /** Nanoseconds since the epoch. */
  readonly nanoseconds: string;
  readonly text: string;
  readonly bytes: Buffer;
}

interface SentMessage {
  readonly streamKey: string;
  readonly shardId: string;
  readonly sequence: string;
  readonly nanoseconds: string;
  readonly payload?: string;
}

/** The options of the consumer have the names that ours have. */
export interface ReferenceConsumerConfig {
  readonly mode: 'real-time' | 'resumable' | 'load-balanced';
  readonly group?: string;
  readonly consumer?: string;
  readonly autoStreamReset?: 'earliest' | 'latest';
  readonly autoCommit?: 'immediate' | 'delayed' | 'rolling' | 'disabled';
  readonly autoCommitDelay?: number;
  readonly autoCommitInterval?: number;
  readonly autoClaimInterval?: number;
  readonly autoClaimIdle?: number;
  readonly batchSize?: number;
  readonly mkStream?: boolean;
}

type ReferenceSharder =
  { readonly roundRobin: number } | { readonly pseudoRandom: number } | { readonly given: readonly string[] };

type TimestampFormat = 'ms' | 'ns';
type Command = Readonly<Record<string, unknown>> & { readonly op: string };

/** How long a consumer waits for one more message, where a test expects none. Longer than a blocked read of the reference, 1 s. */
export const QUIET = 1_500;
const PATIENCE = 10_000;

/** The program of test/interop/reference, with one role: a producer, a consumer, a manager. */
class ReferenceProcess {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #answers: Array<(answer: { ok?: unknown; error?: string }) => void> = [];
  readonly #exited: Promise<unknown>;
  #hasExited = false;

  private constructor(role: string, config: object, format: TimestampFormat) {
    const program = fileURLToPath(new URL(`../interop/reference/target/reference-${format}`, import.meta.url));
    if (!existsSync(program)) throw new Error(`${program} is missing: run 'npm run test:interop'`);
    this.#child = spawn(program, [role, JSON.stringify(config)], {
      stdio: ['pipe', 'pipe', 'inherit'],
      // Without it the reference looks for a network card, which a container may lack.
      env: { ...process.env, HOST_ID: process.env['HOST_ID'] ?? 'test-host' },
    });
    this.#child.stdin.on('error', () => undefined);
    this.#exited = once(this.#child, 'exit').finally(() => {
      this.#hasExited = true;
      for (const answer of this.#answers.splice(0)) answer({ error: 'the reference has exited' });
    });
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#lines.on('line', (line) => this.#answers.shift()?.(JSON.parse(line) as { ok?: unknown; error?: string }));
  }

  /** Resolves with the answer to the configuration. @throws Error as the reference words it */
  static async start(
    role: string,
    config: object,
    format: TimestampFormat = 'ms',
  ): Promise<{ process: ReferenceProcess; answer: unknown }> {
    const process = new ReferenceProcess(role, config, format);
    return { process, answer: await process.#answer() };
  }

  async run(command: Command): Promise<unknown> {
    const answer = this.#answer();
    this.#child.stdin.write(`${JSON.stringify(command)}\n`);
    return answer;
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async #answer(): Promise<unknown> {
    if (this.#hasExited) throw new Error('the reference has exited');
    const { ok, error } = await new Promise<{ ok?: unknown; error?: string }>((resolve) => this.#answers.push(resolve));
    if (error !== undefined) throw new Error(error);
    return ok;
  }
}

class ReferenceProducer {
  readonly #process: ReferenceProcess;

  constructor(process: ReferenceProcess) {
    this.#process = process;
  }

  /** Sends without waiting in between; resolves with the receipts. */
  async send(streamKey: string, payloads: ReadonlyArray<string | Buffer>): Promise<ReferenceMessage[]> {
    const messages = payloads.map((payload) => ({ payload: Buffer.from(payload as string).toString('hex') }));
    return received(await this.#process.run({ op: 'send', streamKey, messages }));
  }

  async trimMaxLen(streamKey: string, maxLen: number): Promise<number> {
    return Number(await this.#process.run({ op: 'trimMaxLen', streamKey, maxLen }));
  }
}

class ReferenceConsumer {
  readonly #process: ReferenceProcess;
  /** As the reference names them. */
  readonly group: string;
  readonly consumer: string;
  readonly streamShards: ReadonlyArray<readonly [string, string]>;

  constructor(process: ReferenceProcess, answer: unknown) {
    this.#process = process;
    const { group, consumer, streamShards } = answer as Pick<ReferenceConsumer, 'group' | 'consumer' | 'streamShards'>;
    this.group = group;
    this.consumer = consumer;
    this.streamShards = streamShards;
  }

  /** The next messages, fewer if the next one does not come within the patience. */
  async take(count: number, patience = PATIENCE): Promise<ReferenceMessage[]> {
    return received(await this.#process.run({ op: 'next', count, patience }));
  }

  async takeTexts(count: number, patience = PATIENCE): Promise<string[]> {
    return (await this.take(count, patience)).map(({ text }) => text);
  }

  async ack(messages: readonly ReferenceMessage[]): Promise<void> {
    const all = messages.map(({ streamKey, shardId, sequence }) => ({ streamKey, shardId, sequence }));
    await this.#process.run({ op: 'ack', messages: all });
  }

  async commit(): Promise<void> {
    await this.#process.run({ op: 'commit' });
  }

  async commitAsap(): Promise<void> {
    await this.#process.run({ op: 'commitAsap' });
  }

  async seek(nanoseconds: string): Promise<void> {
    await this.#process.run({ op: 'seek', nanoseconds });
  }

  async rewind(to: 'beginning' | 'end' | { sequence: string }): Promise<void> {
    await this.#process.run({ op: 'rewind', ...(typeof to === 'string' ? { to } : to) });
  }

  /** Commits and leaves, as its process does when it is shut down. */
  async end(): Promise<void> {
    await this.#process.run({ op: 'end' });
    await this.kill();
  }

  async kill(): Promise<void> {
    await this.#process.kill();
  }
}

class ReferenceManager {
  readonly #process: ReferenceProcess;

  constructor(process: ReferenceProcess) {
    this.#process = process;
  }

  async scan(): Promise<string[]> {
    const found: string[] = [];
    let cursor = '';
    do {
      const page = (await this.#process.run({ op: 'scan', cursor })) as { cursor: string; streams: string[] };
      found.push(...page.streams);
      cursor = page.cursor;
    } while (cursor !== '0');
    return found;
  }

  async range(streamKey: string, from: string, to: string, count = 1_000): Promise<ReferenceMessage[]> {
    return received(await this.#process.run({ op: 'range', streamKey, from, to, count }));
  }
}

/** The fixture of every test beside the reference; see {@link useReference}. */
export interface TestReference {
  produce(sharder?: ReferenceSharder, format?: TimestampFormat): Promise<ReferenceProducer>;
  consume(
    streamKeys: string | readonly string[],
    config: ReferenceConsumerConfig,
    format?: TimestampFormat,
  ): Promise<ReferenceConsumer>;
  manage(format?: TimestampFormat): Promise<ReferenceManager>;
}

/** Starts the reference for a test file, on the server and database of its URL, and kills it after each test. */
export function useReference(): TestReference {
  const processes: ReferenceProcess[] = [];
  afterEach(async () => {
    await Promise.all(processes.splice(0).map((process) => process.kill()));
  });
  const url = new URL(redisUrl());
  // That of useStreams().
  const server = { url: `redis://${url.host}`, db: Number(process.env['JEST_WORKER_ID'] ?? '1') };
  const start = async (role: string, config: object, format?: TimestampFormat) => {
    const started = await ReferenceProcess.start(role, { ...server, ...config }, format);
    processes.push(started.process);
    return started;
  };
  return {
    async produce(sharder, format) {
      return new ReferenceProducer((await start('produce', { sharder }, format)).process);
    },
    async consume(streamKeys, config, format) {
      const { process, answer } = await start('consume', { ...config, streamKeys: [streamKeys].flat() }, format);
      return new ReferenceConsumer(process, answer);
    },
    async manage(format) {
      return new ReferenceManager((await start('manage', {}, format)).process);
    },
  };
}

/** What the reference reads in a file, or writes to one. */
export async function onFile(role: 'decode' | 'encode', config: object): Promise<unknown> {
  const { process, answer } = await ReferenceProcess.start(role, config);
  await process.kill();
  return answer;
}

function received(answer: unknown): ReferenceMessage[] {
  return (answer as SentMessage[]).map(({ payload = '', ...header }) => {
    const bytes = Buffer.from(payload, 'hex');
    return { ...header, bytes, text: bytes.toString() };
  });
}
