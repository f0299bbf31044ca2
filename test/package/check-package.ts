import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { acquireRedis } from '../support/redis-server.ts';
import { uniqueName } from '../support/redis.ts';

// Checks the package as its users get it: the packed tarball, linted, and installed in two applications that
// pass a message through a real Redis. `npm run check:package` builds first and runs this at the repository root.
const run = promisify(execFile);
const repository = process.cwd();
const bin = (name: string): string => join(repository, 'node_modules', '.bin', name);

const INSTALL_LIMIT = 300_000;
const RUN_LIMIT = 60_000;

interface App {
  title: string;
  type: 'commonjs' | 'module';
  dependencies: Record<string, string>;
}

const nest = (range: string) => ({
  '@nestjs/common': range,
  '@nestjs/core': range,
  '@nestjs/microservices': range,
  '@types/node': '20.19.43',
  'reflect-metadata': '0.2.2',
  rxjs: '7.8.2',
});

const APPS: readonly App[] = [
  {
    title: 'Nest 11.2, CommonJS, ioredis 5',
    type: 'commonjs',
    dependencies: { ...nest('~11.2.0'), ioredis: '5.11.1' },
  },
  { title: 'Nest 12, ESM, ioredis 6', type: 'module', dependencies: { ...nest('^12.0.0'), ioredis: '6.0.0' } },
];

async function pack(workspace: string): Promise<string> {
  const { stdout } = await run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', workspace]);
  const [packed] = JSON.parse(stdout) as Array<{ filename: string }>;
  if (!packed) throw new Error(`npm pack named no file: ${stdout}`);
  return join(workspace, packed.filename);
}

async function runApp({ type, dependencies }: App, workspace: string, tarball: string, url: string): Promise<void> {
  const cwd = join(workspace, type);
  mkdirSync(cwd);
  cpSync(join(repository, 'test', 'package', 'app'), cwd, { recursive: true });
  const manifest = {
    private: true,
    type,
    dependencies: { ...dependencies, 'nestjs-redis-streams': `file:${tarball}` },
  };
  writeFileSync(join(cwd, 'package.json'), JSON.stringify(manifest, null, 2));

  const install = ['install', '--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock'];
  await run('npm', install, { cwd, timeout: INSTALL_LIMIT });
  await run(bin('tsc'), ['-p', 'tsconfig.json'], { cwd, timeout: INSTALL_LIMIT });
  const env = { ...process.env, CHECK_REDIS_URL: url, CHECK_STREAM: uniqueName('package-check') };
  const { stdout, stderr } = await run(process.execPath, ['dist/main.js'], { cwd, env, timeout: RUN_LIMIT });
  if (!stdout.includes('message received')) throw new Error(`the application said: ${stdout}${stderr}`);
}

const results = { passed: 0, failed: 0 };

async function check(title: string, work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
    results.passed++;
    console.log(`✓ ${title}`);
  } catch (error) {
    results.failed++;
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    console.error(`✗ ${title}\n${String(error)}\n${stdout}${stderr}`);
  }
}

const workspace = mkdtempSync(join(tmpdir(), 'check-package-'));
try {
  await using redis = await acquireRedis();
  console.log(`Redis for these checks: ${redis.origin}`);
  const tarball = await pack(workspace);
  await check('publint finds nothing to complain about', () => run(bin('publint'), [tarball, '--strict']));
  // node10 is the resolution of TypeScript before 4.7, which knows no subpath exports.
  await check('attw resolves the right types everywhere', () => run(bin('attw'), [tarball, '--profile', 'node16']));
  for (const app of APPS) {
    await check(`${app.title}: a message passes`, () => runApp(app, workspace, tarball, redis.url));
  }
} finally {
  rmSync(workspace, { recursive: true, force: true });
}
console.log(`Package checks: ${results.passed} passed, ${results.failed} failed`);
process.exitCode = results.failed === 0 ? 0 : 1;
