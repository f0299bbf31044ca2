import { randomBytes } from 'node:crypto';
import { createWriteStream, fstatSync, WriteStream } from 'node:fs';
import type { Stats } from 'node:fs';
import { lstat, open, readlink, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { FailedError } from './failure.js';

/** As many symbolic links as Linux follows. */
const MOST_LINKS = 40;
const PERMISSIONS = 0o7777;

/**
 * Where a dump is written to. A file gets its name when it is complete: until then it is a `.part` file in the same folder, and
 * the file that it replaces stays. Pipes and devices are written directly.
 */
export class DumpTarget {
  readonly stream: Writable;
  readonly #name: string;
  /** Undefined for what is written directly. */
  readonly #part: string | undefined;
  readonly #replaces: boolean;

  /**
   * @param force whether an existing file may be replaced
   * @throws FailedError when it exists, and may not be
   */
  static async open(name: string, force: boolean): Promise<DumpTarget> {
    const place = await placeOf(name);
    const found = await stat(place).catch(absent);
    if (found && isSame(found, fstatSync(process.stdout.fd))) return new DumpTarget(name, process.stdout);
    const isFile = found === undefined || found.isFile();
    if (found && !force && (isFile || found.isBlockDevice())) throw existing(name);
    if (!isFile) return new DumpTarget(name, createWriteStream(place, { fd: await open(place, 'w') }));
    const part = join(dirname(place), `nrs-dump-${randomBytes(4).toString('hex')}.part`);
    const handle = await open(part, 'wx');
    if (found) await likeBefore(handle, found);
    return new DumpTarget(place, createWriteStream(part, { fd: handle, flush: true }), part, found !== undefined);
  }

  private constructor(name: string, stream: Writable, part?: string, replaces = false) {
    this.stream = stream;
    this.#name = name;
    this.#part = part;
    this.#replaces = replaces;
  }

  get isStandardOutput(): boolean {
    return this.stream === process.stdout;
  }

  /** Whether a dump that fails leaves nothing. */
  get isReversible(): boolean {
    return this.#part !== undefined;
  }

  /** Of the standard output it is not known. */
  get bytesWritten(): number | undefined {
    return this.stream instanceof WriteStream ? this.stream.bytesWritten : undefined;
  }

  /** Gives the file its name, when the stream has ended. @throws FailedError when another program has taken the name */
  async publish(): Promise<void> {
    if (this.#part === undefined) return;
    try {
      if (!this.#replaces) await claim(this.#name);
      await rename(this.#part, this.#name);
    } catch (error) {
      await this.discard();
      throw error;
    }
  }

  /** Removes what was written, where that can be done. */
  async discard(): Promise<void> {
    if (this.#part !== undefined) await rm(this.#part, { force: true });
  }
}

/** Gives a file the permissions of the one that it replaces, and its owner, which only root can. */
async function likeBefore(handle: FileHandle, { mode, uid, gid }: Stats): Promise<void> {
  await handle.chmod(mode & PERMISSIONS);
  const own = await handle.stat();
  if (process.getuid?.() === 0 && (own.uid !== uid || own.gid !== gid)) await handle.chown(uid, gid);
}

/** Creates the file, empty. */
async function claim(name: string): Promise<void> {
  try {
    await (await open(name, 'wx')).close();
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? existing(name) : error;
  }
}

/** The path behind symbolic links, the last of which may lead to a file that does not exist yet. */
async function placeOf(name: string): Promise<string> {
  let path = name;
  for (let links = 0; links < MOST_LINKS; links += 1) {
    const isLink = (await lstat(path).catch(absent))?.isSymbolicLink() === true;
    // Those of an open file, as behind /dev/stdout, lead to what only the system can open.
    if (!isLink || path.startsWith('/proc/')) return path;
    path = resolve(dirname(path), await readlink(path));
  }
  return path;
}

function absent(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

function isSame(one: Stats, other: Stats): boolean {
  return one.dev === other.dev && one.ino === other.ino;
}

function existing(name: string): FailedError {
  return new FailedError(`The file ${name} exists; --force overwrites it`);
}
