import type { ChildProgram } from './child-program.js';
import { useChildProgram } from './child-program.js';

export interface KeyedProducerInput {
  readonly name: string;
  readonly connection: string;
  readonly stream: string;
  /** How many keys it sends with: the name, and a number. */
  readonly keys: number;
  readonly shards: number;
}

export type KeyedProducerLine = { sent: number; shardId: number } | { error: string } | { total: number };

/** A producer in a process of its own, which sends `<key>:<number>` with the numbers 0, 1, … of each key. */
export interface KeyedProducer extends ChildProgram {
  readonly name: string;
  /** Rounds that are stored, as far as it has told. */
  readonly sent: number;
  /** Where the first key was stored last. */
  readonly shardId: number;
  readonly errors: readonly string[];
  /** All rounds, when it has ended. */
  readonly total: number | undefined;
}

/** Returns a function that starts producers; those that still run are killed after each test. */
export function useKeyedProducers(): (input: KeyedProducerInput) => Promise<KeyedProducer> {
  const start = useChildProgram<KeyedProducerInput, KeyedProducerLine>('./keyed-producer-child.ts');
  return async (input) => {
    const seen = { sent: 0, shardId: -1, errors: [] as string[], total: undefined as number | undefined };
    const child = await start(input, (line) => {
      if ('error' in line) seen.errors.push(line.error);
      else Object.assign(seen, line);
    });
    return Object.assign(seen, child, { name: input.name });
  };
}
