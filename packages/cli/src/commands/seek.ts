import type { Command } from 'commander';
import { entryId } from 'nestjs-redis-streams/engine';
import type { StreamManager } from 'nestjs-redis-streams/engine';
import { isEntryId, messagesOf } from '../entries.js';
import { counted } from '../numbers.js';
import { action, examples } from '../session.js';
import { existingGroup } from '../streams.js';
import { TIME, timeOf } from '../time.js';

interface SeekOptions {
  to: string;
  dryRun?: boolean;
}

/** The move of the group on one key. */
interface Move {
  readonly streamKey: string;
  readonly shardId: number;
  readonly group: string;
  readonly from: string;
  readonly messagesAhead: number;
}

type Target = Date | 'beginning' | 'end' | { readonly id: string };

const WHERE = `beginning, end, an id, ${TIME}`;

/** Messages that are counted at most, because counting reads them. */
const MOST_COUNTED = 1_000;

export function addSeek(program: Command): void {
  program
    .command('seek')
    .description('move a group to a time, after an id, to the beginning or to the end of a stream')
    .argument('<key>', 'the stream')
    .argument('<group>', 'the consumer group')
    .requiredOption('--to <where>', WHERE)
    .option('--dry-run', 'print what would be done, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs seek orders workers --to 1h --dry-run', 'prints how many messages the group would receive again'],
        ['nrs seek orders workers --to 1h', 'gives the group the messages of the last hour again'],
        ['nrs seek orders workers --to end --yes', 'skips all messages that were not delivered yet, and does not ask'],
      ),
    )
    .action(
      action<[key: string, group: string], SeekOptions>(async (session, [key, name], { to, dryRun }) => {
        const target = targetOf(to);
        const manager = await session.manager();
        const places = await existingGroup(manager, key, name);
        const moves: Move[] = [];
        for (const { shard, group } of places) {
          const ahead = await countAfter(manager, shard.key, target);
          const from = group.lastDeliveredId;
          moves.push({ streamKey: key, shardId: shard.shardId, group: name, from, messagesAhead: ahead });
        }
        const { output } = session;
        const described = (tense: 'is' | 'was'): string[] =>
          moves.map(({ shardId, from, messagesAhead }) => {
            const isMore = messagesAhead > MOST_COUNTED;
            const count = `${isMore ? 'more than ' : ''}${counted(Math.min(messagesAhead, MOST_COUNTED), 'message')}`;
            return `shard ${shardId}: ${tense} at ${from}; ${count} to deliver from the new position`;
          });
        const where = to === 'beginning' || to === 'end' ? `to the ${to}` : `to ${to}`;
        if (!dryRun) {
          await session.confirm(`This moves the group '${name}' of '${key}' ${where}.`, ...described('is'));
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
        for (const line of described(dryRun ? 'is' : 'was')) await output.line(`  ${line}`);
      }),
    );
}

function targetOf(to: string): Target {
  if (to === 'beginning' || to === 'end') return to;
  return isEntryId(to) ? { id: to } : timeOf('--to', to, WHERE);
}

/** The number of messages after the target, at most {@link MOST_COUNTED} + 1. */
async function countAfter(manager: StreamManager, key: string, target: Target): Promise<number> {
  if (target === 'end') return 0;
  const from = target instanceof Date ? { after: target } : target === 'beginning' ? '-' : target.id;
  let count = 0;
  for await (const { id } of messagesOf(manager, key, from, '+')) {
    if (typeof from === 'string' && from !== '-' && entryId.compare(id, from) === 0) continue;
    count += 1;
    if (count > MOST_COUNTED) break;
  }
  return count;
}
