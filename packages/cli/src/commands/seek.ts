import type { Command } from 'commander';
import type { StreamManager } from 'nestjs-redis-streams/engine';
import { compareIds, isEntryId, messagesOf } from '../entries.js';
import { counted } from '../numbers.js';
import { action, examples } from '../session.js';
import { existingGroup } from '../streams.js';
import { timeOf } from '../time.js';

interface SeekOptions {
  to: string;
  dryRun?: boolean;
}

type Target = Date | 'beginning' | 'end' | { readonly id: string };

/** More are not counted: each of them has to be read. */
const MOST_COUNTED = 1_000;

export function addSeek(program: Command): void {
  program
    .command('seek')
    .description('move a group, so that it continues after a time or an id, at the beginning or at the end')
    .argument('<key>', 'the stream')
    .argument('<group>', 'the consumer group')
    .requiredOption('--to <where>', 'an ISO date, milliseconds, a time ago such as 10m, an id, beginning or end')
    .option('--dry-run', 'only say what would be done')
    .addHelpText(
      'after',
      examples(
        ['nrs seek orders workers --to 1h --dry-run', 'says what the group would get again'],
        ['nrs seek orders workers --to 1h', 'gives the group the messages of the last hour again'],
        ['nrs seek orders workers --to end --yes', 'skips all messages that were not delivered, without a question'],
      ),
    )
    .action(
      action<[key: string, group: string], SeekOptions>(async (session, [key, name], { to, dryRun }) => {
        const target = targetOf(to);
        const manager = await session.manager();
        const places = await existingGroup(manager, key, name);
        const moves = [];
        for (const { shard, group } of places) {
          const ahead = await countAfter(manager, shard.key, target);
          const from = group.lastDeliveredId;
          moves.push({ streamKey: key, shardId: shard.shardId, group: name, from, messagesAhead: ahead });
        }
        const { output } = session;
        const described = moves.map(({ shardId, from, messagesAhead }) => {
          const count =
            messagesAhead > MOST_COUNTED ? `more than ${MOST_COUNTED} messages` : counted(messagesAhead, 'message');
          return `shard ${shardId}: after ${from} now; then ${count} ahead`;
        });
        const where = to === 'beginning' || to === 'end' ? `to the ${to}` : `to ${to}`;
        if (!dryRun) {
          await session.confirm(`Moves the group '${name}' of '${key}' ${where}.`, ...described);
          for (const { shard } of places) await manager.setGroupPosition(shard.key, name, target);
        }
        if (output.isJson) {
          return output.json(
            moves.map(({ messagesAhead, ...move }) => ({
              ...move,
              to,
              messagesAhead: Math.min(messagesAhead, MOST_COUNTED),
              isMore: messagesAhead > MOST_COUNTED,
              dryRun: dryRun === true,
            })),
          );
        }
        await output.line(`${dryRun ? 'Would move' : 'Moved'} ${where}:`);
        for (const line of described) await output.line(`  ${line}`);
      }),
    );
}

function targetOf(to: string): Target {
  if (to === 'beginning' || to === 'end') return to;
  return isEntryId(to) ? { id: to } : timeOf('--to', to);
}

/** How many messages follow the target, as far as {@link MOST_COUNTED} and one more. */
async function countAfter(manager: StreamManager, key: string, target: Target): Promise<number> {
  if (target === 'end') return 0;
  const from = target instanceof Date ? { after: target } : target === 'beginning' ? '-' : target.id;
  let count = 0;
  for await (const { id } of messagesOf(manager, key, from, '+')) {
    if (typeof from === 'string' && from !== '-' && compareIds(id, from) === 0) continue;
    count += 1;
    if (count > MOST_COUNTED) break;
  }
  return count;
}
