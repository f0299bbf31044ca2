import type { Command } from 'commander';
import type { StreamDetails, StreamManager } from 'nestjs-redis-streams/engine';
import { readableBytes } from '../numbers.js';
import { action, examples } from '../session.js';

export function addLs(program: Command): void {
  program
    .command('ls')
    .description('list the streams')
    .argument('[pattern]', 'only keys that match it: * stands for any characters')
    .addHelpText(
      'after',
      examples(
        ['nrs ls', 'lists all streams'],
        ["nrs ls 'orders*' --json", 'prints those whose names begin with orders'],
      ),
    )
    .action(
      action<[pattern?: string]>(async (session, [pattern]) => {
        const manager = await session.manager();
        const found: StreamDetails[] = [];
        for (const key of (await streamsOf(manager)).filter(matching(pattern))) found.push(await manager.info(key));
        const { output } = session;
        const listed = found.map(({ streamKey, length, memory, firstId, lastId, groups, shards }) => ({
          streamKey,
          length,
          memory,
          firstId,
          lastId,
          groups: groups.map(({ name }) => name),
          shards: shards.length,
        }));
        if (output.isJson) return output.json(listed);
        await output.table(
          ['STREAM', 'ENTRIES', 'MEMORY', 'LAST ID', 'GROUPS'],
          listed.map((each) => [
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

/** The keys of all streams, in the order of their names; shards by their own names. */
async function streamsOf(manager: StreamManager): Promise<string[]> {
  const streams = new Set<string>();
  let cursor = '0';
  do {
    const page = await manager.scan(cursor);
    for (const key of page.streams) streams.add(key);
    cursor = page.cursor;
  } while (cursor !== '0');
  return [...streams].sort();
}

function matching(pattern = '*'): (key: string) => boolean {
  const parts = pattern.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
  const expression = new RegExp(`^${parts.join('.*')}$`, 's');
  return (key) => expression.test(key);
}
