import type { Command } from 'commander';
import { addDeadLetterOptions, deadLetterStreamOf, pickDeadLetters } from '../dead-letters.js';
import type { DeadLetterFlags } from '../dead-letters.js';
import { counted, countOf } from '../numbers.js';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';

interface RedriveFlags extends DeadLetterFlags {
  limit?: string;
  dryRun?: boolean;
}

export function addDeadRedrive(dead: Command): void {
  addDeadLetterOptions(dead.command('redrive').description('return dead letters to the groups that they came from'))
    .argument('<key>', 'the stream')
    .argument('[id...]', 'ids of dead letters (default: all)')
    .option('--limit <number>', 'return at most this many, the oldest first')
    .option('--dry-run', 'count them, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs dead redrive orders --dry-run', 'counts what would be returned'],
        ['nrs dead redrive orders --reason TimeoutError', 'returns what timed out'],
        ['nrs dead redrive orders 1764270506123-0 --yes', 'returns one, and does not ask'],
      ),
    )
    .action(
      action<[key: string, ids: string[]], RedriveFlags>(async (session, [key, ids], { limit, dryRun, ...flags }) => {
        const most = limit === undefined ? Infinity : countOf('--limit', limit);
        const manager = await session.manager();
        const place = deadLetterStreamOf(key, flags.dead);
        const selected = await pickDeadLetters(manager, key, ids, flags, ({ id }) => id);
        const wanted = new Set(selected);
        let signal: AbortSignal | undefined;
        const select = {
          filter: ({ id }: { id: string }) => wanted.has(id) && !signal?.aborted,
          ...(limit !== undefined && { limit: most }),
        };
        const { output } = session;
        const expected = Math.min(wanted.size, most);
        if (!dryRun && expected > 0) {
          await session.confirm(`This returns ${counted(expected, 'dead letter')} of '${key}' to their groups.`);
          signal = session.interruption();
        }
        const { redriven } =
          expected === 0 ? { redriven: 0 } : await manager.redrive(place, { ...select, dryRun: dryRun === true });
        const skipped = signal?.aborted ? 0 : expected - redriven;
        if (output.isJson) await output.json([{ streamKey: key, redriven, skipped, dryRun: dryRun === true }]);
        else
          await output.line(
            `${dryRun ? 'Would return' : 'Returned'} ${counted(redriven, 'dead letter')} of ${printable(key)}`,
          );
        session.checkInterruption('the other dead letters were not returned');
        if (output.isJson) return;
        if (skipped > 0) {
          await output.warn(
            `Skipped ${skipped}: their headers name no origin, or their messages are still pending in the group`,
          );
        }
      }),
    );
}
