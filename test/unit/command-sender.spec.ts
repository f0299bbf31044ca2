import { describe, expect, it } from '@jest/globals';

import { CommandSender } from '../../lib/redis/commands/command-sender.js';
import { ServerFeatures } from '../../lib/redis/commands/server-features.js';
import type { ConnectionRouter } from '../../lib/redis/connection/connection-router.js';
import type { Command } from '../../lib/redis/wire/resp-writer.js';

/** What is sent to a node of the commands of a read. */
async function sentTo(isAsking: boolean, commands: readonly Command[]): Promise<readonly Command[] | undefined> {
  let sent: readonly Command[] | undefined;
  const pages = async (reads: readonly Command[]): Promise<[]> => {
    sent = reads;
    return [];
  };
  const router = { find: () => ({ channel: { pages }, isAsking }) } as unknown as ConnectionRouter;
  await new CommandSender(router, new ServerFeatures(() => undefined), '', 1_000).pages('key', commands);
  return sent;
}

describe('two reads in one write', () => {
  const first: Command = ['XREAD', 'COUNT', 1, 'BLOCK', 1_000, 'STREAMS', 'key', '0-0'];
  const second: Command = ['XREAD', 'COUNT', 10, 'STREAMS', 'key', '0-0'];

  it('are both sent to the node of their slot', async () => {
    expect(await sentTo(false, [first, second])).toEqual([first, second]);
  });

  it('are not both sent to a node to which the slot is being migrated: ASKING holds for one command', async () => {
    expect(await sentTo(true, [first, second])).toEqual([first]);
  });
});
