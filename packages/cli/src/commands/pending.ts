import type { Command } from 'commander';
import type { PendingEntry, StreamManager } from 'nestjs-redis-streams/engine';
import { addCount, allPages, limitOf, printFirst } from '../listing.js';
import type { CountFlag } from '../listing.js';
import { action, examples } from '../session.js';
import { existingGroup } from '../streams.js';
import { readableDuration } from '../time.js';

interface PendingOptions extends CountFlag {
  consumer?: string;
}

interface PendingRow extends PendingEntry {
  readonly streamKey: string;
  readonly shardId: number;
}

const LARGEST_PAGE = 1_000;

export function addPending(program: Command): void {
  const command = program
    .command('pending')
    .description('list the entries that a group has received and not acknowledged, the oldest first');
  addCount(command, 100)
    .argument('<key>', 'the stream')
    .argument('<group>', 'the consumer group')
    .option('--consumer <name>', 'entries of this consumer')
    .addHelpText(
      'after',
      examples(
        ['nrs pending orders workers', 'lists the first 100 pending entries of the group workers'],
        ['nrs pending orders workers --consumer worker-1 --count 1000', 'lists up to 1000 of one consumer'],
      ),
    )
    .action(
      action<[key: string, group: string], PendingOptions>(async (session, [key, name], { consumer, ...flags }) => {
        const limit = limitOf(flags);
        const { output } = session;
        const found = pendingOf(await session.manager(), key, name, consumer, limit);
        await printFirst(output, limit, found, async (entries) => {
          if (output.isJson) return output.json(entries);
          await output.table(['ID', 'SHARD', 'CONSUMER', 'IDLE', 'DELIVERIES'], entries.map(row));
        });
      }),
    );
}

function row({ id, shardId, consumer, idle, deliveryCount }: PendingRow): Array<string | number> {
  return [id, shardId, consumer, readableDuration(idle), deliveryCount];
}

async function* pendingOf(
  manager: StreamManager,
  streamKey: string,
  name: string,
  consumer: string | undefined,
  limit: number,
): AsyncGenerator<PendingRow> {
  const size = Math.min(LARGEST_PAGE, limit + 1);
  for (const { shard } of await existingGroup(manager, streamKey, name)) {
    const entries = allPages(size, (page) =>
      manager.pending(shard.key, name, { ...page, ...(consumer !== undefined && { consumer }) }),
    );
    for await (const entry of entries) yield { streamKey, shardId: shard.shardId, ...entry };
  }
}
