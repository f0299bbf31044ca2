import type { Command } from 'commander';
import { addDeadLetterOptions, hasFilter, pickDeadLetters } from '../dead-letters.js';
import type { DeadLetterFlags } from '../dead-letters.js';
import { UsageError } from '../failure.js';
import { counted } from '../numbers.js';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';

interface RmFlags extends DeadLetterFlags {
  all?: boolean;
  dryRun?: boolean;
}

export function addDeadRm(dead: Command): void {
  addDeadLetterOptions(dead.command('rm').description('delete dead letters and their messages permanently'))
    .argument('<key>', 'the stream')
    .argument('[id...]', 'ids of dead letters')
    .option('--all', 'delete all, where neither ids nor a filter are given')
    .option('--dry-run', 'count them, and change nothing')
    .addHelpText(
      'after',
      examples(
        ['nrs dead rm orders 1764270506123-0', 'deletes one dead letter'],
        ['nrs dead rm orders --until 30d --dry-run', 'counts those older than 30 days'],
        ['nrs dead rm orders --all --yes', 'deletes all, and does not ask'],
      ),
    )
    .action(
      action<[key: string, ids: string[]], RmFlags>(async (session, [key, ids], { all, dryRun, ...flags }) => {
        // A list of ids that a script computed may be empty by mistake.
        if (ids.length === 0 && !hasFilter(flags) && !all) {
          throw new UsageError('dead rm needs ids, a filter such as --reason, or --all');
        }
        if (ids.length > 0 && all) throw new UsageError('dead rm takes ids or --all, not both');
        const manager = await session.manager();
        const selected = await pickDeadLetters(manager, key, ids, flags, ({ id }) => id);
        const place = flags.dead === undefined ? {} : { deadLetterStream: flags.dead };
        let removed = dryRun ? selected.length : 0;
        if (!dryRun && selected.length > 0) {
          await session.confirm(`This deletes ${counted(selected.length, 'dead letter')} of '${key}' permanently.`);
          const signal = session.interruption();
          for (const id of selected) {
            if (signal.aborted) break;
            if (await manager.removeDeadLetter(key, id, place)) removed += 1;
          }
        }
        const { output } = session;
        if (output.isJson) await output.json([{ streamKey: key, removed, dryRun: dryRun === true }]);
        else
          await output.line(
            `${dryRun ? 'Would delete' : 'Deleted'} ${counted(removed, 'dead letter')} of ${printable(key)}`,
          );
        session.checkInterruption('the other dead letters were not deleted');
      }),
    );
}
