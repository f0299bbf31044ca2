import type { Command } from 'commander';
import { isEntryId } from '../entries.js';
import type { Entry } from '../entries.js';
import { FailedError, UsageError } from '../failure.js';
import { shownJson, timestampOf } from '../messages.js';
import { printable, printableBytes } from '../printable.js';
import { action, examples } from '../session.js';
import { existingStream } from '../streams.js';

export function addGet(program: Command): void {
  program
    .command('get')
    .description('print one message')
    .argument('<key>', 'the stream')
    .argument('<id>', 'the id of the entry, such as 1764270506123-0')
    .addHelpText('after', examples(['nrs get orders 1764270506123-0', 'prints that message, with its headers']))
    .action(
      action<[key: string, id: string]>(async (session, [key, id]) => {
        if (!isEntryId(id))
          throw new UsageError(`The id must be that of an entry, such as 1764270506123-0; got '${id}'`);
        const manager = await session.manager();
        const { shards } = await existingStream(manager, key);
        const found: Entry[] = [];
        for (const shard of shards) {
          const messages = await manager.range(shard.key, id, id, { count: 1 });
          found.push(...messages.map((message) => ({ streamKey: key, shardId: shard.shardId, message })));
        }
        if (found.length === 0) throw new FailedError(`The stream '${key}' has no entry ${id}`);
        const { output } = session;
        if (output.isJson) return output.json(found.map(shownJson));
        for (const { shardId, message } of found) {
          await output.line(`${output.styled('bold', message.id)}  ${timestampOf(message) ?? ''}  shard ${shardId}`);
          for (const [name, value] of Object.entries(message.headers)) {
            await output.line(`  ${output.styled('cyan', printable(name))}: ${printable(value)}`);
          }
          if (message.hasPayload) await output.line(printableBytes(message.payload));
          else
            for (const [name, value] of message.fields)
              await output.line(`  ${printable(name)} ${printableBytes(value)}`);
        }
      }),
    );
}
