import { expect, it } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { resolveConsumerOptions } from '../../lib/engine/options/resolve-options.js';
import { Acknowledger } from '../../lib/engine/settling/acknowledger.js';
import type { PendingCommands, StreamEntry } from '../../lib/redis/commands/stream-commands.js';

const nothing = (): void => undefined;

it('a suspect does not wait for acks that another node does not confirm', async () => {
  const started: string[] = [];
  const pending = {
    claimOwn: async (_key: string, _group: string, _consumer: string, [{ id }]: [StreamEntry]) => {
      started.push(id);
      return { entries: [{ id, fields: [], deliveryCount: 2 }], deleted: [] };
    },
  };
  const acknowledger = new Acknowledger({
    consumer: resolveConsumerOptions({ mode: 'load-balanced', group: 'g' }),
    pending: pending as unknown as PendingCommands,
    ack: () => new Promise<number>(() => undefined),
    retries: { retriesOf: () => undefined, restart: async () => undefined },
    logger: { error: nothing, warn: nothing, log: nothing, debug: nothing },
    onError: nothing,
    isOursAlone: () => true,
  });
  acknowledger.ack(new Partition('elsewhere', 0, 'elsewhere'), '1-0');

  const message = StreamMessage.create(
    new Partition('s', 0, 's'),
    { id: '2-0', fields: [], deliveryCount: 2 },
    DEFAULTS.streamer,
  );
  await expect(acknowledger.countStart(message, new AbortController().signal)).resolves.toBe(true);
  expect(started).toEqual(['2-0']);
  acknowledger.close();
});
