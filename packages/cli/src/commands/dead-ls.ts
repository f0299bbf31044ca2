import type { Command } from 'commander';
import { addDeadLetterOptions, causeOf, deadLettersOf } from '../dead-letters.js';
import type { DeadLetterFlags } from '../dead-letters.js';
import { deadLetterJson } from '../messages.js';
import { countOf } from '../numbers.js';
import { action, examples } from '../session.js';

const LONGEST_CAUSE = 80;

export function addDeadLs(dead: Command): void {
  addDeadLetterOptions(dead.command('ls').description('list the dead letters of a stream, the oldest first'))
    .argument('<key>', 'the stream, orders: not that of its dead letters')
    .option('--count <number>', 'at most so many', '100')
    .addHelpText(
      'after',
      examples(
        ['nrs dead ls orders', 'lists the entries of orders.dead'],
        ['nrs dead ls orders --reason TimeoutError --since 1h', 'lists what timed out in the last hour'],
      ),
    )
    .action(
      action<[key: string], DeadLetterFlags & { count: string }>(async (session, [key], { count, ...flags }) => {
        const wanted = countOf('--count', count);
        const { output } = session;
        const listed: unknown[] = [];
        const rows: Array<Array<string | number | undefined>> = [];
        for await (const letter of deadLettersOf(await session.manager(), key, flags)) {
          if (output.isJson) listed.push(deadLetterJson(letter));
          else {
            const cause = causeOf(letter);
            const shown = cause && cause.length > LONGEST_CAUSE ? `${cause.slice(0, LONGEST_CAUSE)}…` : cause;
            rows.push([letter.id, letter.origin?.group, letter.origin?.id, letter.deliveryCount, shown]);
          }
          if (listed.length + rows.length === wanted) break;
        }
        if (output.isJson) return output.json(listed);
        await output.table(['ID', 'GROUP', 'MESSAGE', 'DELIVERIES', 'CAUSE'], rows);
      }),
    );
}
