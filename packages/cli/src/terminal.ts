import { createInterface } from 'node:readline/promises';
import { Writable } from 'node:stream';

/** Whether a person can be asked. Questions go to the standard error, so that results can be redirected. */
export function canAsk(): boolean {
  return process.stdin.isTTY === true && process.stderr.isTTY === true;
}

/** Undefined when the input ends without an answer. */
export async function ask(question: string): Promise<string | undefined> {
  return askOn(process.stderr, question);
}

/** The same, and what is typed is not shown. */
export async function askHidden(question: string): Promise<string | undefined> {
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const answer = askOn(silent, '');
  // Only now: until the answer is awaited, the terminal echoes what is typed.
  process.stderr.write(question);
  const text = await answer;
  process.stderr.write('\n');
  return text;
}

async function askOn(output: NodeJS.WritableStream, question: string): Promise<string | undefined> {
  const lines = createInterface({ input: process.stdin, output, terminal: true });
  try {
    const ended = new Promise<undefined>((resolve) => lines.once('close', () => resolve(undefined)));
    return await Promise.race([lines.question(question), ended]);
  } finally {
    lines.close();
    process.stdin.unref();
  }
}
