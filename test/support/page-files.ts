import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The files that a document shows: each is a code block below a line with nothing but its path, `` `src/main.ts`: ``. */
export function filesOf(document: string): Map<string, string> {
  const blocks = /^`([\w./-]+)`:\n\n```\w+\n(.*?)^```$/gms;
  return new Map([...readFileSync(document, 'utf8').matchAll(blocks)].map(([, path = '', text = '']) => [path, text]));
}

/** Writes the files that a document shows below a folder, as its reader does. */
export function writeFilesOf(document: string, folder: string): void {
  for (const [path, text] of filesOf(document)) {
    const target = join(folder, path);
    mkdirSync(dirname(target), { recursive: true });
    writeFileSync(target, text);
  }
}
