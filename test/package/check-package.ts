import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { build as bundle } from 'esbuild';
import { writeFilesOf } from '../support/page-files.ts';
import { acquireRedis } from '../support/redis-server.ts';
import { uniqueName } from '../support/redis.ts';

// Checks the package as its users get it: the packed tarball, linted, and installed in three applications that pass a
// message through a real Redis, compiled also by an older TypeScript that does not know the exports of packages. `npm run check:package` builds first and runs this at the repository root.
const run = promisify(execFile);
const repository = process.cwd();
const bin = (name: string): string => join(repository, 'node_modules', '.bin', name);

/** As in tsconfig.node10.json. */
const NODE10_FOLDER = 'dist-node10';

const INSTALL_LIMIT = 300_000;
const RUN_LIMIT = 60_000;

/** Node then ignores the condition `module-sync` and resolves `require` to the CommonJS build, as Jest and bundlers do. */
const COMMONJS_BUILD = '--no-experimental-require-module';

interface App {
  title: string;
  type: 'commonjs' | 'module';
  dependencies: Record<string, string>;
  programs: readonly Program[];
  /** A document whose files are compiled as it says, with the `tsconfig.json` that it shows. */
  page?: string;
}

/** A file of `test/package/app`, without its suffix. */
interface Program {
  name: 'main' | 'console' | 'engine' | 'opentelemetry' | 'bundle' | 'node10';
  title: string;
  flags?: readonly string[];
  /** The folder of the package that the program must have loaded, and the one that it must not. */
  build: 'esm' | 'cjs';
  /** What the program prints beside the confirmation that it received its message. */
  prints?: RegExp;
  /** The program and everything that it imports become one file, in which names are shortened. */
  bundle?: 'esm' | 'cjs';
  /** Packages that are not in the bundle. */
  external?: readonly string[];
}

const nest = (range: string) => ({
  '@nestjs/common': range,
  '@nestjs/core': range,
  '@nestjs/microservices': range,
  '@types/node': '20.19.43',
  'reflect-metadata': '0.2.2',
  rxjs: '7.8.2',
});

const PROM_CLIENT = { 'prom-client': '15.1.3' };

const NEST_PROGRAM: Program = { name: 'main', title: 'a message passes from client to handler', build: 'esm' };
const ENGINE_PROGRAM: Program = { name: 'engine', title: 'the engine loads neither Nest nor rxjs', build: 'esm' };

/** The console, with the HTTP adapter that the application has. */
const CONSOLE_PROGRAM: Program = { name: 'console', title: 'the console serves its pages and figures', build: 'esm' };

/** The resolution of TypeScript before 4.7, with the last TypeScript that has it without a warning. Always CommonJS. */
const NODE10_PROGRAM: Program = {
  name: 'node10',
  title: 'every entry point works in a project with moduleResolution node10 (TypeScript 5.9)',
  build: 'esm',
};

const bundled = (format: 'esm' | 'cjs'): Program => ({
  name: 'bundle',
  title: 'one minified file starts, starts again, heals, and keeps its names apart',
  build: format,
  bundle: format,
});

const bundledWithoutIoredis = (format: 'esm' | 'cjs'): Program => ({
  ...bundled(format),
  title: 'the same with ioredis outside of the file',
  external: ['ioredis'],
});

/** It does not know ioredis 6 yet. */
const OPEN_TELEMETRY = {
  '@opentelemetry/api': '1.9.1',
  '@opentelemetry/instrumentation': '0.218.0',
  '@opentelemetry/instrumentation-ioredis': '0.66.0',
  '@opentelemetry/sdk-trace-node': '2.12.1',
};

/** The application with Nest 12 has no `@opentelemetry/api`: the main entry point does not need it. */
const OPEN_TELEMETRY_PROGRAM: Program = {
  name: 'opentelemetry',
  title: 'openTelemetry() makes spans with the SDK of the application',
  build: 'esm',
};

/** Instrumentation as applications load it. `main` checks in the same process that all ways of loading give one copy. */
const traced = (program: Program): Program[] =>
  ['--require=./otel.cjs', '--import=./otel.cjs', '--import=./otel-hook.mjs'].map((flag) => ({
    ...program,
    title: `an instrumentation of ioredis sees the connections of this package (${flag})`,
    flags: [flag],
    prints: /^spans: .*\bconnect\b/m,
  }));

/** What Nest loads only where it is installed. */
const NOT_INSTALLED = [
  '@nestjs/websockets*',
  '@nestjs/platform-*',
  '@grpc/*',
  'class-transformer*',
  'class-validator',
  'cache-manager',
  'kafkajs',
  'mqtt',
  'nats',
  '@nats-io/*',
  'amqplib',
  'amqp-connection-manager',
];

const APPS: readonly App[] = [
  {
    title: 'Nest 11.2, CommonJS, ioredis 5',
    type: 'commonjs',
    dependencies: {
      ...nest('~11.2.0'),
      ...OPEN_TELEMETRY,
      ...PROM_CLIENT,
      '@nestjs/platform-express': '~11.2.0',
      ioredis: '5.11.1',
    },
    programs: [
      NEST_PROGRAM,
      CONSOLE_PROGRAM,
      { ...CONSOLE_PROGRAM, title: 'the same with the CommonJS build', flags: [COMMONJS_BUILD], build: 'cjs' },
      ENGINE_PROGRAM,
      {
        name: 'engine',
        title: 'the engine loads neither Nest nor rxjs from the CommonJS build',
        flags: [COMMONJS_BUILD],
        build: 'cjs',
      },
      ...traced(NEST_PROGRAM),
      OPEN_TELEMETRY_PROGRAM,
      { ...OPEN_TELEMETRY_PROGRAM, title: 'the same with the CommonJS build', flags: [COMMONJS_BUILD], build: 'cjs' },
      NODE10_PROGRAM,
      {
        ...NODE10_PROGRAM,
        title: 'the same with the CommonJS build',
        flags: [COMMONJS_BUILD],
        build: 'cjs',
      },
      bundled('cjs'),
      bundledWithoutIoredis('cjs'),
    ],
  },
  {
    title: 'Nest 12, ESM, ioredis 6',
    type: 'module',
    dependencies: {
      ...nest('^12.0.0'),
      '@nestjs/platform-express': '^12.0.0',
      ...PROM_CLIENT,
      '@nestjs/platform-fastify': '^12.0.0',
      ioredis: '6.0.0',
    },
    page: 'docs/first-service.md',
    programs: [
      NEST_PROGRAM,
      CONSOLE_PROGRAM,
      ENGINE_PROGRAM,
      NODE10_PROGRAM,
      bundled('esm'),
      bundledWithoutIoredis('esm'),
    ],
  },
  {
    title: 'no Nest and no rxjs installed, ESM, ioredis 5.4.1',
    type: 'module',
    dependencies: { '@types/node': '20.19.43', ...OPEN_TELEMETRY, ioredis: '5.4.1' },
    programs: [
      { ...ENGINE_PROGRAM, title: 'a message passes through the engine' },
      ...traced(ENGINE_PROGRAM),
      OPEN_TELEMETRY_PROGRAM,
    ],
  },
];

/** @param folder of the package */
async function pack(workspace: string, folder: string): Promise<string> {
  const options = ['--json', '--ignore-scripts', '--pack-destination', workspace];
  const { stdout } = await run('npm', ['pack', ...options], { cwd: join(repository, folder) });
  const [packed] = JSON.parse(stdout) as Array<{ filename: string }>;
  if (!packed) throw new Error(`npm pack named no file: ${stdout}`);
  return join(workspace, packed.filename);
}

/** The packed packages: the library, and the console. */
interface Tarballs {
  readonly library: string;
  readonly console: string;
}

/** Installs the packed packages beside the dependencies of the application, without its other peers, and compiles the programs. */
async function install({ type, dependencies, programs }: App, cwd: string, tarballs: Tarballs): Promise<void> {
  mkdirSync(cwd);
  cpSync(join(repository, 'test', 'package', 'app'), cwd, { recursive: true });
  const manifest = {
    private: true,
    type,
    dependencies: {
      ...dependencies,
      'nestjs-redis-streams': `file:${tarballs.library}`,
      ...(programs.includes(CONSOLE_PROGRAM) && { 'nestjs-redis-streams-console': `file:${tarballs.console}` }),
    },
  };
  writeFileSync(join(cwd, 'package.json'), JSON.stringify(manifest, null, 2));

  const options = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock', '--legacy-peer-deps'];
  await run('npm', ['install', ...options], { cwd, timeout: INSTALL_LIMIT });
  const names = new Set(programs.map(({ name }) => name));
  const isForNode10 = names.delete('node10');
  const files = [...names].map((name) => `${name}.ts`);
  writeFileSync(join(cwd, 'tsconfig.json'), JSON.stringify({ extends: './tsconfig.app.json', files }));
  await run(bin('tsc'), ['-p', 'tsconfig.json'], { cwd, timeout: INSTALL_LIMIT });
  if (!isForNode10) return;
  const compiler = join(repository, 'node_modules', 'typescript-5', 'bin', 'tsc');
  await run(process.execPath, [compiler, '-p', 'tsconfig.node10.json'], { cwd, timeout: INSTALL_LIMIT });
  // The application may be one of ES modules.
  writeFileSync(join(cwd, NODE10_FOLDER, 'package.json'), JSON.stringify({ type: 'commonjs' }));
}

/** Packages that are CommonJS call `require`, which a file of ES modules does not have. */
const REQUIRE_IN_ESM = "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);";

async function compilePage(page: string, cwd: string): Promise<void> {
  const folder = join(cwd, 'page');
  writeFilesOf(join(repository, page), folder);
  await run(bin('tsc'), ['-p', folder], { cwd, timeout: INSTALL_LIMIT });
}

async function bundleProgram({ name, external = [] }: Program, format: 'esm' | 'cjs', cwd: string): Promise<string> {
  const outfile = `dist/${name}.one.${format === 'esm' ? 'mjs' : 'cjs'}`;
  await bundle({
    absWorkingDir: cwd,
    entryPoints: [`dist/${name}.js`],
    outfile,
    bundle: true,
    minify: true,
    platform: 'node',
    format,
    external: [...NOT_INSTALLED, ...external],
    logLevel: 'error',
    ...(format === 'esm' ? { banner: { js: REQUIRE_IN_ESM } } : {}),
  });
  return outfile;
}

function compiledFile(name: Program['name']): string {
  return `${name === 'node10' ? NODE10_FOLDER : 'dist'}/${name}.js`;
}

async function runProgram(program: Program, cwd: string, url: string): Promise<void> {
  const { name, flags = [], build, prints } = program;
  const file = program.bundle ? await bundleProgram(program, program.bundle, cwd) : compiledFile(name);
  const env = {
    ...process.env,
    CHECK_REDIS_URL: url,
    CHECK_STREAM: uniqueName('package-check'),
    CHECK_BUILD: build,
  };
  const { stdout, stderr } = await run(process.execPath, [...flags, file], {
    cwd,
    env,
    timeout: RUN_LIMIT,
  });
  if (!stdout.includes('message received') || !(prints?.test(stdout) ?? true))
    throw new Error(`the program printed: ${stdout}${stderr}`);
  const figures = /^loaded in .*$/m.exec(stdout)?.[0];
  if (figures) console.log(`  ${figures}`);
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
  const tarballs: Tarballs = {
    library: await pack(workspace, '.'),
    console: await pack(workspace, 'packages/console'),
  };
  for (const [name, tarball] of Object.entries(tarballs)) {
    await check(`${name}: publint finds nothing to complain about`, () => run(bin('publint'), [tarball, '--strict']));
    await check(
      `${name}: attw resolves the right types of every entry point in every resolution, node10 included`,
      () => run(bin('attw'), [tarball, '--profile', 'strict']),
    );
  }
  for (const [index, app] of APPS.entries()) {
    const cwd = join(workspace, `app-${index}`);
    await check(`${app.title}: installs and compiles`, () => install(app, cwd, tarballs));
    const { page } = app;
    if (page) await check(`${app.title}: the files of ${page} compile`, () => compilePage(page, cwd));
    for (const program of app.programs) {
      await check(`${app.title}: ${program.title}`, () => runProgram(program, cwd, redis.url));
    }
  }
} finally {
  rmSync(workspace, { recursive: true, force: true });
}
console.log(`Package checks: ${results.passed} passed, ${results.failed} failed`);
process.exitCode = results.failed === 0 ? 0 : 1;
