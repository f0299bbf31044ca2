import type { Command } from 'commander';
import type { GroupDetails } from 'nestjs-redis-streams/engine';
import { action, examples } from '../session.js';
import { reachableStream } from '../streams.js';
import { readableDuration } from '../time.js';

export const GROUP_HEAD = ['GROUP', 'CONSUMERS', 'PENDING', 'LAG', 'BEHIND', 'LAST DELIVERED', 'STATE'];

/** A group in a table with {@link GROUP_HEAD}. */
export function groupRow(group: GroupDetails): Array<string | number | undefined> {
  const { name, consumers, pending, lag, lastDeliveredId, isPaused } = group;
  return [name, consumers.length, pending, lag, behind(group), lastDeliveredId, isPaused ? 'paused' : ''];
}

/** The age of the oldest message that waits for a group; undefined where it is not known. */
export function behind({ lagSeconds }: { readonly lagSeconds?: number | undefined }): string | undefined {
  return lagSeconds === undefined ? undefined : readableDuration(lagSeconds * 1_000);
}

export function addGroups(program: Command): void {
  program
    .command('groups')
    .description('list the consumer groups of a stream')
    .argument('<key>', 'the stream')
    .addHelpText(
      'after',
      examples(['nrs groups orders', 'lists the groups of orders, with their lag and pending entries']),
    )
    .action(
      action<[key: string]>(async (session, [key]) => {
        const { groups } = await reachableStream(session, key);
        const { output } = session;
        if (output.isJson) return output.json(groups);
        await output.table(GROUP_HEAD, groups.map(groupRow));
      }),
    );
}
