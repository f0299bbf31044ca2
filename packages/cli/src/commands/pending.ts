import type { Command } from 'commander';
import type { PendingEntry } from 'nestjs-redis-streams/engine';
import { countOf } from '../numbers.js';
import { action, examples } from '../session.js';
import { existingGroup } from '../streams.js';
import { readableDuration } from '../time.js';

interface PendingOptions {
  consumer?: string;
  count: string;
}

const LARGEST_PAGE = 1_000;

export function addPending(program: Command): void {
  program
    .command('pending')
    .description('list what a group was given and has not acknowledged, the oldest first')
    .argument('<key>', 'the stream')
    .argument('<group>', 'the consumer group')
    .option('--consumer <name>', 'only those of this consumer')
    .option('--count <number>', 'at most so many', '100')
    .addHelpText(
      'after',
      examples(
        ['nrs pending orders workers', 'lists the first 100 pending entries of the group workers'],
        ['nrs pending orders workers --consumer worker-1 --count 1000', 'lists up to 1000 of one consumer'],
      ),
    )
    .action(
      action<[key: string, group: string], PendingOptions>(async (session, [key, name], { consumer, count }) => {
        const wanted = countOf('--count', count);
        const manager = await session.manager();
        const found: Array<PendingEntry & { streamKey: string; shardId: number }> = [];
        for (const { shard } of await existingGroup(manager, key, name)) {
          for (let after: string | undefined; found.length < wanted;) {
            const size = Math.min(LARGEST_PAGE, wanted - found.length);
            const page = await manager.pending(shard.key, name, {
              count: size,
              ...(consumer !== undefined && { consumer }),
              ...(after !== undefined && { after }),
            });
            found.push(...page.map((entry) => ({ streamKey: key, shardId: shard.shardId, ...entry })));
            if (page.length < size) break;
            after = page.at(-1)?.id;
          }
        }
        const { output } = session;
        if (output.isJson) return output.json(found);
        await output.table(
          ['ID', 'SHARD', 'CONSUMER', 'IDLE', 'DELIVERIES'],
          found.map((entry) => [
            entry.id,
            entry.shardId,
            entry.consumer,
            readableDuration(entry.idle),
            entry.deliveryCount,
          ]),
        );
      }),
    );
}
