import type { Command } from 'commander';
import { readableBytes } from '../numbers.js';
import { action, examples } from '../session.js';
import { detailsOf, listed, literal, streamKeysOf } from '../streams.js';

export function addLs(program: Command): void {
  program
    .command('ls')
    .description('list the streams')
    .argument('[pattern]', 'list keys that match it, where * stands for any characters')
    .addHelpText(
      'after',
      examples(
        ['nrs ls', 'lists all streams'],
        ["nrs ls 'orders*' --json", 'prints those whose names begin with orders as JSON'],
      ),
    )
    .action(
      action<[pattern?: string]>(async (session, [pattern]) => {
        const manager = await session.manager();
        const { keys, unreachable } = await streamKeysOf(manager, { skipUnreachable: true });
        const wanted = keys.filter(matching(pattern));
        const { found, refused } = await detailsOf(manager, wanted, { skipUnreachable: true });
        const { output } = session;
        if (unreachable.length > 0) {
          await output.warn(`Not listed are streams on nodes that do not answer: ${listed(unreachable)}`);
        }
        if (refused.length > 0) await output.warn(`Not listed, because the user may not read them: ${listed(refused)}`);
        // After the loss of a master the others refuse every key, unless cluster-require-full-coverage is off.
        const unserved = found.filter(({ streamKey, shards, unreachable: missing }) => {
          return shards.length === 0 && missing?.includes(streamKey);
        });
        if (unserved.length > 0) {
          const names = unserved.map(({ streamKey }) => streamKey);
          await output.warn(`Not listed, because their node does not serve them: ${listed(names)}`);
        }
        // A stream that has no keys and no node that is away was deleted in the meantime.
        const there = found.filter(({ shards }) => shards.length > 0);
        const rows = there.map(({ streamKey, length, memory, firstId, lastId, groups, shards }) => ({
          streamKey,
          length,
          memory,
          firstId,
          lastId,
          groups: groups.map(({ name }) => name),
          shards: shards.length,
        }));
        if (output.isJson) return output.json(rows);
        await output.table(
          ['STREAM', 'ENTRIES', 'MEMORY', 'LAST ID', 'GROUPS'],
          rows.map((each) => [
            each.streamKey,
            each.length,
            readableBytes(each.memory),
            each.lastId,
            each.groups.join(', '),
          ]),
        );
      }),
    );
}

function matching(pattern = '*'): (key: string) => boolean {
  const expression = new RegExp(`^${pattern.split('*').map(literal).join('.*')}$`, 's');
  return (key) => expression.test(key);
}
