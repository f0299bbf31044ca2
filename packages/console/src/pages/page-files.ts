import { readFileSync, readdirSync } from 'node:fs';
import { extname, join } from 'node:path';
import { gzipSync } from 'node:zlib';

export interface PageFile {
  readonly type: string;
  readonly plain: Buffer;
  readonly compressed: Buffer;
}

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

/** The bundled pages, in memory: a name from a URL is looked up among theirs, and never becomes a path. */
export class PageFiles {
  readonly #files = new Map<string, PageFile>();

  /** Without files where there is no such folder. */
  constructor(folder: string) {
    for (const name of namesIn(folder)) {
      const type = TYPES[extname(name)];
      if (type === undefined) continue;
      const plain = readFileSync(join(folder, name));
      this.#files.set(name, { type, plain, compressed: gzipSync(plain) });
    }
  }

  find(name: string): PageFile | undefined {
    return this.#files.get(name);
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}
