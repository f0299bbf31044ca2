import type { Command } from 'commander';
import type { DeadLetterMessage } from 'nestjs-redis-streams/engine';
import { DEAD_LETTER_HEADERS } from 'nestjs-redis-streams/engine';
import { addDeadLetterOptions, deadLettersOf, pickDeadLetters } from '../dead-letters.js';
import type { DeadLetterFlags } from '../dead-letters.js';
import { addCount, limitOf, printFirst } from '../listing.js';
import type { CountFlag } from '../listing.js';
import { deadLetterJson } from '../messages.js';
import { counted } from '../numbers.js';
import type { Output } from '../output.js';
import { printable, printableBytes } from '../printable.js';
import { action, examples } from '../session.js';

const OWN_HEADERS = new Set<string>(Object.values(DEAD_LETTER_HEADERS));

export function addDeadShow(dead: Command): void {
  const command = dead.command('show').description('show dead letters with their errors, headers and payloads');
  addCount(addDeadLetterOptions(command), 10, ' where no ids are given')
    .argument('<key>', 'the stream')
    .argument('[id...]', 'ids of dead letters (default: the oldest)')
    .addHelpText(
      'after',
      examples(
        ['nrs dead show orders', 'shows the ten oldest dead letters of orders'],
        ['nrs dead show orders 1764270506123-0', 'shows one of them'],
      ),
    )
    .action(
      action<[key: string, ids: string[]], DeadLetterFlags & CountFlag>(async (session, [key, ids], flags) => {
        const limit = limitOf(flags);
        const { output } = session;
        const manager = await session.manager();
        const print = async (letters: readonly DeadLetterMessage[]): Promise<void> => {
          if (output.isJson) return output.json(letters.map(deadLetterJson));
          for (const [index, letter] of letters.entries()) {
            if (index > 0) await output.line('');
            await show(letter, output);
          }
        };
        if (ids.length > 0) await print(await pickDeadLetters(manager, key, ids, flags, (letter) => letter));
        else await printFirst(output, limit, deadLettersOf(manager, key, flags), print);
      }),
    );
}

async function show(letter: DeadLetterMessage, output: Output): Promise<void> {
  const { id, timestamp, origin, reason, error, deliveryCount, firstFailure, lastFailure, payload } = letter;
  const headers = Object.entries(letter.headers).filter(([name]) => !OWN_HEADERS.has(name));
  const span = [...new Set([firstFailure, lastFailure].map((date) => date?.toISOString() ?? '-'))].join(' to ');
  await output.line(`${output.styled('bold', id)}  stored ${timestamp.toISOString()}`);
  const lines: ReadonlyArray<readonly [name: string, value: string | undefined]> = [
    ['message', origin && `${origin.id} of ${origin.key}`],
    ['group', origin && `${origin.group}, consumer ${origin.consumer}`],
    [
      'failed',
      deliveryCount === undefined ? undefined : `${counted(deliveryCount, 'delivery', 'deliveries')}, ${span}`,
    ],
    ['reason', reason],
    ['error', error && `${error.name}: ${error.message}`],
    ...headers.map(([name, value], index) => [index === 0 ? 'headers' : '', `${name}: ${value}`] as const),
  ];
  for (const [name, value] of lines) {
    if (value !== undefined) await output.line(`  ${output.styled('cyan', name.padEnd(8))} ${printable(value)}`);
    if (name !== 'error') continue;
    // The first line of a stack repeats the error.
    const frames = error?.stack?.split('\n').filter((line) => /^\s+at /.test(line)) ?? [];
    for (const frame of frames) await output.line(`           ${output.styled('dim', printable(frame.trim()))}`);
  }
  await output.line(`  ${output.styled('cyan', 'payload'.padEnd(8))} ${printableBytes(payload)}`);
}
