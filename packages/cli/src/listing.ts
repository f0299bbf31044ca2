import type { Command } from 'commander';
import { countOf } from './numbers.js';
import type { Output } from './output.js';

export interface CountFlag {
  readonly count: string;
}

/** Gives a command that lists its limit, which {@link limitOf} reads. */
export function addCount(command: Command, shown: number, condition = ''): Command {
  return command.option('--count <number>', `list at most this many${condition}`, String(shown));
}

/** @throws UsageError */
export function limitOf({ count }: CountFlag): number {
  return countOf('--count', count);
}

/** Prints the first of a list. After them a note says if there are more, so that a list that was cut is not taken for all. */
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
  if (isMore) await output.note(`Listed only up to --count ${limit}; there are more`);
}

/** What a method of the manager returns in pages, page after page. */
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
