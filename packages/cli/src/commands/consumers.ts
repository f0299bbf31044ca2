import type { Command } from 'commander';
import { ConsumerPendingError } from 'nestjs-redis-streams/engine';
import { counted } from '../numbers.js';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';
import { existingGroup } from '../streams.js';
import { durationOption, readableDuration } from '../time.js';

interface PruneFlags {
  idle: string;
  dryRun?: boolean;
}

export function addConsumers(program: Command): void {
  const consumers = program
    .command('consumers')
    .description('list the consumers of a group, or remove those that are gone');
  addLs(consumers);
  addPrune(consumers);
}

function addLs(consumers: Command): void {
  consumers
    .command('ls')
    .description('list the consumers of a group')
    .argument('<key>', 'the stream')
    .argument('<group>', 'the consumer group')
    .addHelpText(
      'after',
      examples(['nrs consumers ls orders workers', 'lists the consumers that read orders in the group workers']),
    )
    .action(
      action<[key: string, group: string]>(async (session, [key, group]) => {
        const manager = await session.manager();
        await existingGroup(manager, key, group);
        const found = await manager.consumers(key, group);
        const { output } = session;
        if (output.isJson) return output.json(found);
        await output.table(
          ['CONSUMER', 'PENDING', 'LAST SEEN', 'LAST MESSAGE'],
          found.map(({ name, pending, idle, inactive }) => [
            name,
            pending,
            `${readableDuration(idle)} ago`,
            inactive === undefined ? undefined : `${readableDuration(inactive)} ago`,
          ]),
        );
      }),
    );
}

function addPrune(consumers: Command): void {
  consumers
    .command('prune')
    .description('remove consumers that are gone and have no pending entries')
    .argument('<key>', 'the stream')
    .argument('<group>', 'the consumer group')
    .option('--idle <time>', 'remove those that were idle for this time; a live consumer reads every few seconds', '1h')
    .option('--dry-run', 'list them, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs consumers prune orders workers --dry-run', 'lists the consumers that would be removed'],
        [
          'nrs consumers prune orders workers --idle 1d --yes',
          'removes those that were idle for a day, and does not ask',
        ],
      ),
    )
    .action(
      action<[key: string, group: string], PruneFlags>(async (session, [key, group], { idle, dryRun }) => {
        const least = durationOption('--idle', idle, '1h');
        const manager = await session.manager();
        const places = await existingGroup(manager, key, group);
        const names = (await manager.consumers(key, group))
          .filter((consumer) => consumer.idle >= least && consumer.pending === 0)
          .map(({ name }) => name);
        if (!dryRun && names.length > 0) {
          await session.confirm(
            `This removes ${counted(names.length, 'consumer')} of '${group}': ${names.join(', ')}.`,
          );
        }
        const signal = dryRun ? undefined : session.interruption();
        const removed: string[] = [];
        for (const name of names) {
          if (signal?.aborted) break;
          let isRemoved = true;
          for (const { shard, group: on } of dryRun ? [] : places) {
            if (!on.consumers.some((consumer) => consumer.name === name)) continue;
            try {
              await manager.removeConsumer(shard.key, group, name);
            } catch (error) {
              // It has received a message since it was listed, so it is alive.
              if (!(error instanceof ConsumerPendingError)) throw error;
              isRemoved = false;
            }
          }
          if (isRemoved) removed.push(name);
        }
        const { output } = session;
        if (output.isJson) {
          await output.json(
            removed.map((name) => ({ streamKey: key, group, consumer: name, dryRun: dryRun === true })),
          );
        } else {
          await output.line(
            `${dryRun ? 'Would remove' : 'Removed'} ${counted(removed.length, 'consumer')} of ${printable(group)}`,
          );
          for (const name of removed) await output.line(`  ${printable(name)}`);
        }
        session.checkInterruption('the other consumers were not removed');
      }),
    );
}
