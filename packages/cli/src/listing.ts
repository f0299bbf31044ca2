import type { Command } from 'commander';
import { countOf } from './numbers.js';
import type { Output } from './output.js';

export interface CountFlag {
  readonly count: string;
}

/** Adds the option `--count`, which {@link limitOf} reads. */
export function addCount(command: Command, shown: number, condition = ''): Command {
  return command.option('--count <number>', `list at most this many${condition}`, String(shown));
}

/** @throws UsageError */
export function limitOf({ count }: CountFlag): number {
  return countOf('--count', count);
}

/** Prints the first `limit` of a list, then a note if there are more. */
export async function printFirst<T>(
  output: Output,
  limit: number,
  list: AsyncIterable<T>,
  print: (first: readonly T[]) => Promise<void>,
): Promise<void> {
  const first: T[] = [];
  let isMore = false;
  for await (const each of list) {
    isMore = first.length === limit;
    if (isMore) break;
    first.push(each);
  }
  await print(first);
  if (isMore) await output.warn(`Listed only up to --count ${limit}; there are more`);
}

/** All results of a method of the manager that returns pages. */
export async function* allPages<T extends { readonly id: string }>(
  size: number,
  read: (page: { count: number; after?: string }) => Promise<T[]>,
): AsyncGenerator<T> {
  for (let after: string | undefined; ;) {
    const page = await read({ count: size, ...(after !== undefined && { after }) });
    yield* page;
    after = page.at(-1)?.id;
    if (page.length < size || after === undefined) return;
  }
}
