import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll } from '@jest/globals';
import { transformFileSync } from '@swc/core';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** As Jest compiles the tests. `npm run sample` compiles with the compiler of TypeScript, which takes twenty times as long. */
const OPTIONS = {
  swcrc: false,
  jsc: {
    target: 'es2022',
    parser: { syntax: 'typescript', decorators: true },
    transform: { legacyDecorator: true, decoratorMetadata: true },
    keepClassNames: true,
    rewriteRelativeImportExtensions: true,
  },
  module: { type: 'es6' },
} as const;

/**
 * Compiles the samples for a test file, into a folder of its own: another test may be compiling into the default one.
 * @returns the folder, whose folder `sample` has the programs
 */
export function useCompiledSamples(): string {
  return useCompiled('sample');
}

/** The same for the benchmarks, which are in the folder `bench`. */
export function useCompiledBench(): string {
  return useCompiled('bench');
}

function useCompiled(programs: string): string {
  const folder = mkdtempSync(join(tmpdir(), `${programs}-`));
  beforeAll(() => {
    writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    for (const name of ['lib', programs, 'test/support']) compile(join(ROOT, name), join(folder, name));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function compile(source: string, target: string): void {
  for (const file of readdirSync(source, { recursive: true, encoding: 'utf8' })) {
    const [from, to] = [join(source, file), join(target, file)];
    mkdirSync(dirname(to), { recursive: true });
    if (file.endsWith('.ts')) writeFileSync(to.replace(/\.ts$/, '.js'), transformFileSync(from, OPTIONS).code);
    else if (/\.[cm]?js$/.test(file)) cpSync(from, to);
  }
}
