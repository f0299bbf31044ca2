import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';

export interface ServerBinary {
  path: string;
  /** How the program was found, as part of a sentence. */
  how: string;
}

export const WAYS_TO_GET_REDIS = [
  'set REDIS_URL to a running server',
  'set REDIS_SERVER_BIN to a redis-server or valkey-server program',
  'install redis-server or valkey-server so that it is on the PATH',
  'start a container runtime such as Docker (redis:8-alpine is run with Testcontainers)',
  'run as root on Debian or Ubuntu (the redis-server package is installed with apt-get)',
] as const;

/** `REDIS_SERVER_BIN`, otherwise `redis-server` or `valkey-server` on the PATH. */
export function findServerBinary(env: NodeJS.ProcessEnv = process.env): ServerBinary | undefined {
  const named = env['REDIS_SERVER_BIN'];
  if (named) {
    const path = findProgram(named, env);
    if (!path) throw new Error(`REDIS_SERVER_BIN names "${named}", which is not a program that can be run`);
    return { path, how: 'named by REDIS_SERVER_BIN' };
  }
  for (const name of ['redis-server', 'valkey-server']) {
    const path = findProgram(name, env);
    if (path) return { path, how: 'found on the PATH' };
  }
  return undefined;
}

/** Returns the program that was found or installed; otherwise throws an error that lists the ways to get one. */
export async function requireServerBinary(): Promise<ServerBinary> {
  const binary = findServerBinary() ?? (await installServer());
  if (binary) return binary;
  throw new Error(
    `A Redis server program is needed here. Ways to get one:\n- ${WAYS_TO_GET_REDIS.slice(1).join('\n- ')}`,
  );
}

/** Installs the distribution's package as root on Debian or Ubuntu; returns undefined on other systems. */
export async function installServer(env: NodeJS.ProcessEnv = process.env): Promise<ServerBinary | undefined> {
  if (!canInstall(env)) return undefined;
  console.error('No Redis server found: installing the redis-server package with apt-get (root on Debian or Ubuntu).');
  const child = spawn('sh', ['-c', INSTALL_SCRIPT], {
    // In its own session, so that the end of this process does not interrupt a running installation.
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const [code] = await once(child, 'close');
  const path = findProgram('redis-server', env) ?? findProgram('/usr/bin/redis-server', env);
  if (code !== 0 || !path) throw new Error(`apt-get could not install redis-server (exit code ${code}):\n${output}`);
  return { path, how: 'just installed with apt-get' };
}

// Only the program is needed, but the package also contains a service. policy-rc.d, Debian's mechanism for this, keeps
// the service from starting (an existing policy-rc.d is left alone), and the service is disabled for the next boot.
// With the lock, a second installation waits and then finds the program installed. apt-get writes to a file, because a
// pipe would break when this process exits.
const INSTALL_SCRIPT = `
set -e
exec 9</etc/os-release
if command -v flock >/dev/null; then flock 9; fi
if command -v redis-server >/dev/null; then exit 0; fi
policy=/usr/sbin/policy-rc.d
if [ -e "$policy" ]; then policy=; fi
log=$(mktemp)
trap 'rm -f "$log" $policy' EXIT
trap 'exit 1' HUP INT TERM
if [ -n "$policy" ]; then
  printf '#!/bin/sh\\nexit 101\\n' > "$policy"
  chmod +x "$policy"
fi
{
  apt-get -q update
  apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends redis-server
} >"$log" 2>&1 || { cat "$log"; exit 1; }
update-rc.d redis-server disable >/dev/null 2>&1 || true
`;

function canInstall(env: NodeJS.ProcessEnv): boolean {
  if (process.getuid?.() !== 0 || !findProgram('apt-get', env)) return false;
  try {
    return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'));
  } catch {
    return false;
  }
}

function findProgram(name: string, env: NodeJS.ProcessEnv): string | undefined {
  const folders = (env['PATH'] ?? '').split(delimiter).filter(Boolean);
  const candidates = name.includes('/') ? [name] : folders.map((folder) => join(folder, name));
  return candidates.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** For example `Redis 7.0.15`. */
export function describeServer(path: string): string {
  const text = execFileSync(path, ['--version'], { encoding: 'utf8' });
  const version = /v=(\S+)/.exec(text)?.[1] ?? 'of unknown version';
  return `${/^\w+/.exec(text)?.[0] ?? 'Redis'} ${version}`;
}
