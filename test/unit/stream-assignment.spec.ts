import { describe, expect, it } from '@jest/globals';

import type { ConsumerSession } from '../../lib/engine/consuming/consumer-session.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { StreamAssignment } from '../../lib/engine/consuming/stream-assignment.js';
import type { RedisStreamsError } from '../../lib/errors.js';
import { safeLogger } from '../../lib/shared/logger.js';

const ignore = (): void => undefined;

describe('stream assignment', () => {
  it('reports a vanished stream that it cannot leave, and does not reject', async () => {
    const found = new Partition('orders.eu', 0, 'orders.eu');
    found.mustExist = true;
    const session = {
      environment: { control: { reading: {} }, logger: safeLogger({ error: ignore, warn: ignore, log: ignore }) },
      options: { shardDiscoveryInterval: false },
      partitions: { current: [found] },
      remove: () => Promise.reject(new Error('cannot be left')),
    };
    const errors: RedisStreamsError[] = [];
    const assignment = new StreamAssignment(session as unknown as ConsumerSession, (error) => errors.push(error));
    await assignment.vanished('orders.eu');
    expect(errors).toEqual([expect.objectContaining({ message: expect.stringContaining('orders.eu') })]);
    await assignment.close();
  });
});
