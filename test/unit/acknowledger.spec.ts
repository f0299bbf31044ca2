import { expect, it } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { Claims } from '../../lib/engine/consuming/recovery/claims.js';
import { RetrySchedule } from '../../lib/engine/consuming/recovery/retry-schedule.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { resolveConsumerOptions } from '../../lib/engine/options/resolve-options.js';
import { Acknowledger } from '../../lib/engine/settling/acknowledger.js';
import type { PendingCommands, StreamEntry } from '../../lib/redis/commands/stream-commands.js';

const nothing = (): void => undefined;

const LOGGER = { error: nothing, warn: nothing, log: nothing, debug: nothing };

function messageOf(partition: Partition, id: string): StreamMessage {
  return StreamMessage.create(partition, { id, fields: [], deliveryCount: 2 }, DEFAULTS.streamer);
}

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
    logger: LOGGER,
    onError: nothing,
    isOursAlone: () => true,
  });
  acknowledger.ack(new Partition('elsewhere', 0, 'elsewhere'), '1-0');

  const message = messageOf(new Partition('s', 0, 's'), '2-0');
  await expect(acknowledger.countStart(message, new AbortController().signal)).resolves.toBe(true);
  expect(started).toEqual(['2-0']);
  acknowledger.close();
});

it('messages count among those that wait for a retry while Redis has not confirmed what prepares it', async () => {
  const confirmations: Array<() => void> = [];
  const pending = {
    setIdle: () => new Promise<void>((resolve) => confirmations.push(resolve)),
  } as unknown as PendingCommands;
  const claims = new Claims({ pending, countsStarts: false, group: 'g', consumer: 'me', noAck: false, logger: LOGGER });
  const schedule = new RetrySchedule(claims, 'me', 1_000, { onTakenAway: nothing });
  const acknowledger = new Acknowledger({
    consumer: resolveConsumerOptions({ mode: 'load-balanced', group: 'g' }),
    pending,
    ack: () => new Promise<number>(() => undefined),
    retries: { retriesOf: () => schedule, restart: async () => undefined },
    logger: LOGGER,
    onError: nothing,
    isOursAlone: () => true,
  });
  const partition = new Partition('s', 0, 's');
  const retry = (n: number): Promise<boolean> => acknowledger.retryLater(messageOf(partition, `${n}-0`), 5_000);

  const first = Array.from({ length: 9_999 }, (_, index) => retry(index));
  expect(schedule.isFull).toBe(false);
  const last = retry(10_000);
  expect(schedule.isFull).toBe(true);
  for (const confirm of confirmations) confirm();
  await Promise.all([...first, last]);
  expect(schedule.isFull).toBe(true);
  acknowledger.close();
});
