// Compiles src/ into dist/esm and dist/cjs.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

const cwd = fileURLToPath(new URL('.', import.meta.url));
const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc');
rmSync(`${cwd}dist`, { recursive: true, force: true });
for (const project of ['tsconfig.build.json', 'tsconfig.cjs.json'])
  execFileSync(process.execPath, [compiler, '-p', project], { cwd, stdio: 'inherit' });
writeFileSync(`${cwd}dist/cjs/package.json`, `${JSON.stringify({ type: 'commonjs' })}\n`);
const files = readFileSync(`${cwd}package-files.cjs`, 'utf8');
writeFileSync(`${cwd}dist/package-files.cjs`, files.replace("'./package.json'", "'../package.json'"));
