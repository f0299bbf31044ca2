import type { Command } from 'commander';
import type { DeadLetterMessage } from 'nestjs-redis-streams/engine';
import { addDeadLetterOptions, causeOf, deadLettersOf } from '../dead-letters.js';
import type { DeadLetterFlags } from '../dead-letters.js';
import { addCount, limitOf, printFirst } from '../listing.js';
import type { CountFlag } from '../listing.js';
import { deadLetterJson } from '../messages.js';
import { action, examples } from '../session.js';

const LONGEST_CAUSE = 80;

export function addDeadLs(dead: Command): void {
  const command = dead.command('ls').description('list the dead letters of a stream, the oldest first');
  addCount(addDeadLetterOptions(command), 100)
    .argument('<key>', 'the stream itself: orders, not orders.dead')
    .addHelpText(
      'after',
      examples(
        ['nrs dead ls orders', 'lists the entries of orders.dead'],
        ['nrs dead ls orders --reason TimeoutError --since 1h', 'lists what timed out in the last hour'],
      ),
    )
    .action(
      action<[key: string], DeadLetterFlags & CountFlag>(async (session, [key], flags) => {
        const limit = limitOf(flags);
        const { output } = session;
        const found = deadLettersOf(await session.manager(), key, flags);
        await printFirst(output, limit, found, async (letters) => {
          if (output.isJson) return output.json(letters.map(deadLetterJson));
          await output.table(['ID', 'GROUP', 'MESSAGE', 'DELIVERIES', 'CAUSE'], letters.map(row));
        });
      }),
    );
}

function row(letter: DeadLetterMessage): Array<string | number | undefined> {
  const { id, origin, deliveryCount } = letter;
  const cause = causeOf(letter);
  const shown = cause && cause.length > LONGEST_CAUSE ? `${cause.slice(0, LONGEST_CAUSE)}…` : cause;
  return [id, origin?.group, origin?.id, deliveryCount, shown];
}
