import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { jest } from '@jest/globals';
import { until } from './until.js';

/** The built tool; `npm run test:cli` builds it first. */
const MAIN = fileURLToPath(new URL('../../packages/cli/dist/main.js', import.meta.url));
/** Milliseconds; a command that does not end by then has left a connection or a timer open. */
const LIMIT = 30_000;

// A test starts some processes one after another, each of which takes seconds on a busy machine.
jest.setTimeout(4 * LIMIT);

export interface ToolResult {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ToolOptions {
  /** Of Redis; undefined leaves the choice to the tool. */
  url?: string;
  input?: string | Uint8Array;
  env?: NodeJS.ProcessEnv;
  /** Milliseconds after which it is killed. Default: 30 s. */
  limit?: number | undefined;
}

/** Runs the tool to its end, without a terminal. */
export async function runTool(args: readonly string[], options: ToolOptions = {}): Promise<ToolResult> {
  const tool = new RunningTool(args, options);
  tool.child.stdin.end(options.input);
  return tool.ended;
}

/** Runs the tool with `--json`, which must succeed, and parses what it prints. */
export async function runToolForJson<T>(args: readonly string[], options: ToolOptions = {}): Promise<T> {
  const { code, stdout, stderr } = await runTool([...args, '--json'], options);
  if (code !== 0) throw new Error(`nrs ${args.join(' ')} ended with ${code}: ${stderr}`);
  return JSON.parse(stdout) as T;
}

/**
 * The same, with the largest resident memory of its process in MiB. Not by `resourceUsage()`, which begins with that of the
 * process that started it.
 */
export async function runToolForMemory(
  args: readonly string[],
  options: ToolOptions,
): Promise<ToolResult & { peak: number }> {
  const script = `import{readFileSync}from'node:fs';process.on('exit',()=>process.stderr.write(readFileSync('/proc/self/status')))`;
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(script)}` };
  const result = await runTool(args, { ...options, env });
  const [, kilobytes] = /^VmHWM:\s+(\d+) kB$/m.exec(result.stderr) ?? [];
  if (kilobytes === undefined) throw new Error(`nrs ${args.join(' ')} ended with ${result.code}: ${result.stderr}`);
  return { ...result, peak: Math.round(Number(kilobytes) / 1024) };
}

/** A tool that runs until the test ends it. */
export class RunningTool {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<ToolResult>;
  readonly #printed: { stdout: Buffer[]; stderr: Buffer[] } = { stdout: [], stderr: [] };

  /** @param isAtTerminal on a pseudo-terminal, which has both outputs in `stdout` */
  constructor(args: readonly string[], { url, env, limit = LIMIT }: ToolOptions = {}, isAtTerminal = false) {
    const all = [MAIN, ...args, ...(url === undefined ? [] : ['--url', url])];
    const inherited = { ...process.env, REDIS_URL: undefined, REDIS_PASSWORD: undefined, REDISCLI_AUTH: undefined };
    const settings = { env: { ...inherited, NODE_OPTIONS: undefined, ...env } };
    // With `exec`, because some shells stay between: Ctrl+C would end the shell, whose exit code would be reported.
    this.child = isAtTerminal
      ? spawn('script', ['-qec', `exec ${[process.execPath, ...all].map(quoted).join(' ')}`, '/dev/null'], settings)
      : spawn(process.execPath, all, settings);
    this.child.stdin.on('error', () => undefined);
    this.child.stdout.on('data', (chunk: Buffer) => this.#printed.stdout.push(chunk));
    this.child.stderr.on('data', (chunk: Buffer) => this.#printed.stderr.push(chunk));
    this.ended = this.#end(limit);
  }

  get stdout(): string {
    return Buffer.concat(this.#printed.stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#printed.stderr).toString();
  }

  /** To the standard output; at a terminal also what it notes. */
  untilPrinted(text: string | RegExp): Promise<void> {
    return this.#untilShown(text, () => this.stdout);
  }

  /** To the standard error. */
  untilNoted(text: string | RegExp): Promise<void> {
    return this.#untilShown(text, () => this.stderr);
  }

  async #untilShown(text: string | RegExp, shown: () => string): Promise<void> {
    const isShown = (): boolean => (typeof text === 'string' ? shown().includes(text) : text.test(shown()));
    await until(`the tool has printed ${String(text)}`, isShown, LIMIT).catch((error: Error) => {
      throw new Error(`${error.message}; it has printed:\n${this.stdout}${this.stderr}`, { cause: error });
    });
  }

  async #end(milliseconds: number): Promise<ToolResult> {
    const limit = setTimeout(() => this.child.kill('SIGKILL'), milliseconds);
    const [code] = (await once(this.child, 'close')) as [number | null];
    clearTimeout(limit);
    return { code, stdout: this.stdout, stderr: this.stderr };
  }
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
