import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

/** Programs in other languages, or with another major version of Nest, that this package is measured beside. */
export type PeerName = 'c' | 'rust' | 'nats';

interface Peer {
  readonly title: string;
  /** The path of the built program. */
  readonly program: string;
  /** They build it, one after the other. Paths are relative to the root of the repository. */
  readonly steps: ReadonlyArray<readonly [command: string, ...args: string[]]>;
  /** What its build needs; printed when the build fails. */
  readonly needs: string;
}

const C_PROGRAM = '.run/peers/c/peer';
const C_FLAGS = ['-std=c11', '-D_POSIX_C_SOURCE=200809L', '-O2', '-Wall', '-Wextra'];
const C_SOURCES = ['main', 'redis', 'append', 'consume', 'tail'].map((name) => `bench/peers/c/${name}.c`);

const CARGO_BUILD = ['build', '--release', '--locked', '--quiet'];
const RUST_MANIFEST = 'bench/peers/rust/Cargo.toml';
const RUST_TARGET = '.run/peers/rust';

const NATS_FOLDER = '.run/peers/nats';
const NPM_CI = ['ci', '--prefer-offline', '--ignore-scripts', '--no-audit', '--no-fund'];

const PEERS: Record<PeerName, Peer> = {
  c: {
    title: 'The C client',
    program: C_PROGRAM,
    steps: [['cc', ...C_FLAGS, '-o', C_PROGRAM, ...C_SOURCES, '-lhiredis']],
    needs: 'a C compiler and hiredis (on Debian gcc, libc6-dev and libhiredis-dev)',
  },
  rust: {
    title: 'The program on the Rust reference',
    program: `${RUST_TARGET}/release/peer`,
    steps: [['cargo', ...CARGO_BUILD, '--manifest-path', RUST_MANIFEST, '--target-dir', RUST_TARGET]],
    needs: 'cargo 1.85 or newer (https://rustup.rs)',
  },
  nats: {
    title: 'The Nest application on NATS JetStream',
    program: `${NATS_FOLDER}/main.mjs`,
    steps: [
      ['nats-server', '--version'],
      ['cp', '-R', 'bench/peers/nats', dirname(NATS_FOLDER)],
      ['npm', ...NPM_CI, '--prefix', NATS_FOLDER],
    ],
    needs: 'nats-server and npm (on Debian nats-server and npm)',
  },
};

/** @returns undefined, or the reason why the program is missing */
export function buildPeer(name: PeerName): string | undefined {
  const { title, program, steps, needs } = PEERS[name];
  mkdirSync(dirname(program), { recursive: true });
  for (const [command, ...args] of steps) {
    const { error, status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
    if (status === 0) continue;
    const reason = error?.message ?? stderr.split('\n').find((line) => line.includes('error')) ?? stderr.trim();
    return `${title} is missing: its build needs ${needs}, and failed: ${reason}`;
  }
  return undefined;
}

export function programOf(name: PeerName): string {
  return PEERS[name].program;
}
