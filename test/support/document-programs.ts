import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll } from '@jest/globals';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Milliseconds; a program that does not end by then has left a connection or a timer open. */
const LIMIT = 20_000;
/** This package under the names by which users import it. */
const PACKAGE = {
  'nestjs-redis-streams': join(ROOT, 'lib/index.ts'),
  'nestjs-redis-streams/engine': join(ROOT, 'lib/engine.ts'),
  'nestjs-redis-streams/file': join(ROOT, 'lib/file.ts'),
  'nestjs-redis-streams/prometheus': join(ROOT, 'lib/prometheus.ts'),
  'nestjs-redis-streams/terminus': join(ROOT, 'lib/terminus.ts'),
  'nestjs-redis-streams/opentelemetry': join(ROOT, 'lib/opentelemetry.ts'),
  'nestjs-redis-streams/testing': join(ROOT, 'lib/testing.ts'),
};

/** A block of code in a document, and the output that the document shows below it. */
export interface DocumentProgram {
  /** Document and line. */
  readonly title: string;
  readonly code: string;
  readonly output: string | undefined;
}

/** Every `ts` block of a document, with the `text` block that follows it, if there is one. */
export function programsOf(document: string): DocumentProgram[] {
  const text = readFileSync(join(ROOT, document), 'utf8');
  const blocks = /^```ts\n(.*?)^```\n(?:\n```text\n(.*?)^```$)?/gms;
  return [...text.matchAll(blocks)].map(({ 1: code = '', 2: output, index }) => ({
    title: `${document}:${text.slice(0, index).split('\n').length}`,
    code,
    output,
  }));
}

/** Makes one module of a program in a document; below its folder there must be the packages that it imports. */
export async function bundleProgram({ title, code }: Pick<DocumentProgram, 'title' | 'code'>, outfile: string) {
  await build({
    stdin: { contents: code, sourcefile: title, loader: 'ts', resolveDir: ROOT },
    outfile,
    bundle: true,
    alias: PACKAGE,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'es2022',
    tsconfigRaw: { compilerOptions: { experimentalDecorators: true } },
    logLevel: 'silent',
  });
}

/** A folder for the modules of documents, with the packages of this repository; it is removed after the tests. */
export function useProgramFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'document-'));
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/**
 * Returns a function that runs a program in a child process, which must end by itself; resolves with the program's
 * output.
 */
export function useDocumentPrograms(): (program: DocumentProgram, env: NodeJS.ProcessEnv) => Promise<string> {
  const folder = useProgramFolder();
  let count = 0;

  return async (program, env) => {
    const outfile = join(folder, `${count++}.js`);
    await bundleProgram(program, outfile);
    try {
      const options = { env: { ...process.env, ...env }, timeout: LIMIT };
      return (await promisify(execFile)(process.execPath, [outfile], options)).stdout;
    } catch (error) {
      const { message, stdout } = error as { message: string; stdout: string };
      throw new Error(`${message}\n${stdout}`, { cause: error });
    }
  };
}
