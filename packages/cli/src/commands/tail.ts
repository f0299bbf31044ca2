import type { Command } from 'commander';
import { entryId } from 'nestjs-redis-streams/engine';
import type { RangeBound, ShardDetails, StreamManager } from 'nestjs-redis-streams/engine';
import { entriesOf } from '../entries.js';
import type { Entry } from '../entries.js';
import { shownJson, messageLine } from '../messages.js';
import { printable } from '../printable.js';
import { repeat } from '../repeat.js';
import { action, examples } from '../session.js';
import type { Session } from '../session.js';
import { existingStream } from '../streams.js';
import { TIME, timeOf } from '../time.js';

interface TailOptions {
  since?: string;
  follow?: boolean;
}

/** Milliseconds between two reads. */
const INTERVAL = 250;
/** Reads after which new shards are looked for. */
const READS_PER_DISCOVERY = 20;

export function addTail(program: Command): void {
  program
    .command('tail')
    .description('print the messages of streams: all, those since a time, or new ones as they arrive')
    .argument('<key...>', 'the streams')
    .option('--since <time>', `begin at this time: ${TIME}`)
    .option('-f, --follow', 'print new messages until Ctrl+C; with --since, first those since then')
    .addHelpText(
      'after',
      examples(
        ['nrs tail orders', 'prints all messages of orders, with those of its shards, and ends'],
        ['nrs tail orders --since 10m', 'prints those of the last ten minutes'],
        ['nrs tail orders payments --follow --json', 'prints new messages of both streams, one JSON object a line'],
      ),
    )
    .action(
      action<[keys: string[]], TailOptions>(async (session, [keys], { since, follow }) => {
        const from = since === undefined ? undefined : timeOf('--since', since);
        const manager = await session.manager();
        if (follow) return tailOn(session, manager, keys, from);
        for (const key of keys) {
          const { shards } = await existingStream(manager, key);
          for await (const entry of entriesOf(manager, key, shards, () => from)) {
            await print(session, entry, keys.length > 1, shards.length > 1);
          }
        }
      }),
    );
}

/**
 * Reads the entries after the last one again and again. A consumer would also deliver delayed messages, but this command must
 * change nothing on the server.
 */
async function tailOn(session: Session, manager: StreamManager, keys: readonly string[], since?: Date): Promise<void> {
  const signal = session.interruption();
  const positions = new Map<string, RangeBound>();
  const shards = new Map<string, readonly ShardDetails[]>();
  const discover = async (from: (shard: ShardDetails) => RangeBound): Promise<void> => {
    for (const key of keys) {
      const found = (await manager.info(key)).shards;
      for (const shard of found) if (!positions.has(shard.key)) positions.set(shard.key, from(shard));
      shards.set(key, found);
    }
  };
  const read = async (): Promise<void> => {
    for (const [key, places] of shards) {
      for await (const entry of entriesOf(manager, key, places, (place) => positions.get(place))) {
        if (signal.aborted) return;
        await print(session, entry, keys.length > 1, places.length > 1);
        const place = places.find(({ shardId }) => shardId === entry.shardId);
        if (place) positions.set(place.key, entryId.next(entry.message.id) ?? '+');
      }
    }
  };
  await discover(({ lastId }) => since ?? (lastId === undefined ? '-' : (entryId.next(lastId) ?? '+')));
  await session.output.note(`Following ${keys.join(', ')}; Ctrl+C ends`);
  let reads = 0;
  await repeat(session.output, signal, INTERVAL, async () => {
    await read();
    reads += 1;
    if (reads % READS_PER_DISCOVERY === 0) await discover(() => since ?? '-');
  });
}

async function print({ output }: Session, entry: Entry, isOneOfSeveral: boolean, isSharded: boolean): Promise<void> {
  if (output.isJson) return output.json(shownJson(entry));
  const stream = isOneOfSeveral ? `${output.styled('green', printable(entry.streamKey))}  ` : '';
  await output.line(stream + messageLine(entry, output, isSharded));
}
