import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';

interface Peer {
  readonly title: string;
  /** The path of the built program. */
  readonly program: string;
  /** Builds it. Paths are relative to the root of the repository. */
  readonly compile: readonly [command: string, ...args: string[]];
  /** What its build needs; printed when the build fails. */
  readonly needs: string;
}

const C_PROGRAM = '.run/peers/c/peer';
const C_FLAGS = ['-std=c11', '-D_POSIX_C_SOURCE=200809L', '-O2', '-Wall', '-Wextra'];
const C_SOURCES = ['main', 'redis', 'append', 'consume', 'tail'].map((name) => `bench/peers/c/${name}.c`);

const CARGO_BUILD = ['build', '--release', '--locked', '--quiet'];
const RUST_MANIFEST = 'bench/peers/rust/Cargo.toml';
const RUST_TARGET = '.run/peers/rust';

/** Programs in other languages that this package is measured beside. */
const PEERS = {
  c: {
    title: 'The C client',
    program: C_PROGRAM,
    compile: ['cc', ...C_FLAGS, '-o', C_PROGRAM, ...C_SOURCES, '-lhiredis'],
    needs: 'a C compiler and hiredis (on Debian gcc, libc6-dev and libhiredis-dev)',
  },
  rust: {
    title: 'The program on the Rust reference',
    program: `${RUST_TARGET}/release/peer`,
    compile: ['cargo', ...CARGO_BUILD, '--manifest-path', RUST_MANIFEST, '--target-dir', RUST_TARGET],
    needs: 'cargo 1.85 or newer (https://rustup.rs)',
  },
} satisfies Record<string, Peer>;

export type PeerName = keyof typeof PEERS;

/** @returns undefined, or the reason why the program is missing */
export function buildPeer(name: PeerName): string | undefined {
  const { title, program, compile, needs } = PEERS[name];
  const [command, ...args] = compile;
  mkdirSync(dirname(program), { recursive: true });
  const { error, status, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  if (status === 0) return undefined;
  const reason = error?.message ?? stderr.split('\n').find((line) => line.includes('error')) ?? stderr.trim();
  return `${title} is missing: its build needs ${needs}, and failed: ${reason}`;
}

export function programOf(name: PeerName): string {
  return PEERS[name].program;
}
