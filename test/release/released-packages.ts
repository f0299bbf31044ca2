import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';

/** A repository of a library, its console and its tool, in a temporary folder. */
export class ReleasedPackages {
  readonly #root = mkdtempSync(join(tmpdir(), 'release-'));
  readonly #environment: NodeJS.ProcessEnv;

  /** @param environment of its programs, beside that of this process */
  constructor(version: string, environment: NodeJS.ProcessEnv = {}) {
    this.#environment = environment;
    this.#writeManifest('.', {
      name: 'library',
      version,
      homepage: 'https://example.org/library#readme',
      workspaces: ['.', 'packages/console', 'packages/cli'],
    });
    const library = { library: `^${version}` };
    this.#writeManifest('packages/console', {
      name: 'console',
      version,
      peerDependencies: { ...library, other: '^0.1.2' },
      // Optional, so that npm does not ask a registry for it.
      peerDependenciesMeta: { other: { optional: true } },
    });
    this.#writeManifest('packages/cli', { name: 'cli', version, dependencies: { console: `^${version}`, ...library } });
  }

  [Symbol.dispose](): void {
    rmSync(this.#root, { recursive: true });
  }

  read(file: string): string {
    return readFileSync(join(this.#root, file), 'utf8');
  }

  readJson(file: string): Record<string, unknown> {
    return JSON.parse(this.read(file)) as Record<string, unknown>;
  }

  write(file: string, content: string): void {
    const path = join(this.#root, file);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
  }

  /** Runs a program of this repository there. Resolves with what it prints, or rejects with its errors. */
  run(program: string, ...args: string[]): Promise<string> {
    return this.#execute(resolve(program), args);
  }

  /** Packs them as the workflow does, into their folder. */
  async pack(): Promise<void> {
    await this.#execute('npm', ['pack', '--workspaces', '--pack-destination', '.']);
  }

  /** Runs git there, as a developer with a name. */
  git(...args: string[]): Promise<string> {
    return this.#execute('git', ['-c', 'user.name=release', '-c', 'user.email=release@example.org', ...args]);
  }

  async #execute(file: string, args: readonly string[]): Promise<string> {
    const env = { ...process.env, ...this.#environment };
    const { stdout } = await promisify(execFile)(file, args, { cwd: this.#root, env });
    return stdout.trim();
  }

  #writeManifest(folder: string, manifest: object): void {
    this.write(join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  }
}
