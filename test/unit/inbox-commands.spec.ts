import { describe, expect, it } from '@jest/globals';

import { CommandSender } from '../../lib/redis/commands/command-sender.js';
import { RedisInboxCommands } from '../../lib/redis/commands/inbox.js';
import { ServerFeatures } from '../../lib/redis/commands/server-features.js';
import type { ConnectionRouter, LiveRoute } from '../../lib/redis/connection/connection-router.js';

describe('inbox commands', () => {
  it('look for a record in the slot of its stream in Cluster, also with the first command of all', async () => {
    const keys: unknown[] = [];
    const channel = {
      command: async ([, key]: readonly unknown[]) => {
        keys.push(key);
        return 0;
      },
    };
    let isCluster: boolean | undefined;
    const router = {
      get isCluster() {
        return isCluster;
      },
      find: () => undefined,
      ready: async () => {
        isCluster = true;
        return { channel, isAsking: false } as unknown as LiveRoute;
      },
    } as unknown as ConnectionRouter;
    const inbox = new RedisInboxCommands(new CommandSender(router, new ServerFeatures(), '', 1_000));

    const record = { streamKey: 'orders', group: 'g', id: '0:1-0' };
    await inbox.isRecorded(record);
    await inbox.isRecorded(record);

    expect(keys).toEqual(['{orders}:handled:g:0:1-0', '{orders}:handled:g:0:1-0']);
  });
});
