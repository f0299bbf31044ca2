import type { Command } from 'commander';
import { readableBytes } from '../numbers.js';
import { printable } from '../printable.js';
import { action, examples } from '../session.js';
import { reachableStream } from '../streams.js';
import { GROUP_HEAD, groupRow } from './groups.js';

export function addInfo(program: Command): void {
  program
    .command('info')
    .description('show a stream: length, memory, ids, shards and groups')
    .argument('<key>', 'the stream')
    .addHelpText('after', examples(['nrs info orders', 'shows the stream orders, its shards and its groups']))
    .action(
      action<[key: string]>(async (session, [key]) => {
        const details = await reachableStream(session, key);
        const { output } = session;
        if (output.isJson) return output.json(details);
        const { length, memory, firstId, lastId, shards, groups } = details;
        await output.line(output.styled('bold', printable(key)));
        for (const [name, value] of [
          ['entries', length],
          ['memory', readableBytes(memory)],
          ['first id', firstId],
          ['last id', lastId],
        ] as const) {
          await output.line(`  ${name.padEnd(9)} ${value ?? '-'}`);
        }
        if (shards.length > 1 || shards[0]?.key !== key) {
          await output.line('');
          await output.table(
            ['SHARD', 'KEY', 'ENTRIES', 'MEMORY', 'LAST ID', 'STATE'],
            shards.map((shard) => [
              shard.shardId,
              shard.key,
              shard.length,
              readableBytes(shard.memory),
              shard.lastId,
              shard.isClosed ? 'closed' : 'open',
            ]),
          );
        }
        await output.line('');
        if (groups.length === 0) return output.line('no groups');
        await output.table(GROUP_HEAD, groups.map(groupRow));
      }),
    );
}
