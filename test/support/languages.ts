import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { writeFilesOf } from './page-files.js';

const PAGE = fileURLToPath(new URL('../../docs/other-languages.md', import.meta.url));
/** Milliseconds for one step: downloading, compiling. */
const LIMIT = 90_000;

/** Gives up soon where no package index can be reached. */
const INSTALL = ['install', '--quiet', '--timeout', '5', '--retries', '1'];

/** A program of the page: the command that starts it. */
type CommandLine = readonly [command: string, ...args: string[]];

/** The programs that the page shows in one language, ready to run. */
export interface LanguagePrograms {
  readonly language: string;
  readonly producer: CommandLine;
  readonly consumer: CommandLine;
}

/** Whether the command succeeds. */
function succeeds(cwd: string, command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { cwd, timeout: LIMIT, stdio: 'ignore' }).status === 0;
}

/** Uses redis-py where it is installed, else installs it below the folder. */
function python(folder: string): LanguagePrograms | undefined {
  const own = join(folder, 'venv', 'bin', 'python');
  const isPresent = succeeds(folder, 'python3', '-c', 'import redis; assert int(redis.__version__.split(".")[0]) >= 5');
  const isReady =
    isPresent ||
    (succeeds(folder, 'python3', '-m', 'venv', 'venv') &&
      succeeds(folder, own, '-m', 'pip', ...INSTALL, 'redis==8.1.0'));
  if (!isReady) return undefined;
  const interpreter = isPresent ? 'python3' : own;
  const program = (name: string): CommandLine => [interpreter, join(folder, 'python', `${name}.py`)];
  return { language: 'Python', producer: program('producer'), consumer: program('consumer') };
}

function go(folder: string): LanguagePrograms | undefined {
  const cwd = join(folder, 'go');
  const isReady =
    succeeds(cwd, 'go', 'mod', 'init', 'example') &&
    succeeds(cwd, 'go', 'get', 'github.com/redis/go-redis/v9@v9.23.0', 'github.com/google/uuid@v1.6.0') &&
    succeeds(cwd, 'go', 'build', '-o', 'bin/', './...');
  if (!isReady) return undefined;
  const program = (name: string): CommandLine => [join(cwd, 'bin', name)];
  return { language: 'Go', producer: program('producer'), consumer: program('consumer') };
}

/** Takes the programs out of the page, and prepares those whose language is installed here with its Redis client. */
export function languagePrograms(folder: string): { ready: LanguagePrograms[]; absent: string[] } {
  writeFilesOf(PAGE, folder);
  const prepared = { Python: python(folder), Go: go(folder) };
  return {
    ready: Object.values(prepared).filter((programs) => programs !== undefined),
    absent: Object.entries(prepared).flatMap(([language, programs]) => (programs ? [] : [language])),
  };
}
