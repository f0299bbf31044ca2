import { expect, it } from '@jest/globals';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { HandlerExtras } from '../../lib/index.js';
import { onBatch, onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

it.each<[name: string, extras: HandlerExtras]>([
  ['handlers', { concurrency: 2 }],
  ['handlers of batches', { concurrency: 2, batch: { size: 1 } }],
])(
  'health() is false while all %s have hung for longer than maxOldestHandler, and tells their age',
  async (_, extras) => {
    const pattern = uniqueName('hung');
    const gates = Array.from({ length: 3 }, () => withResolvers<void>());
    let started = 0;
    const handle = (): Promise<void> | undefined => gates[started++]?.promise;
    const { server } = await nest.serve(
      extras.batch ? onBatch(pattern, handle, extras) : onEvent(pattern, handle, extras),
    );
    const health = async (
      maxOldestHandler: number,
    ): Promise<{ isHealthy: boolean; oldestHandler: number | undefined }> => {
      const { isHealthy, loops } = await server.health({ maxOldestHandler });
      return { isHealthy, oldestHandler: loops[0]?.oldestHandler };
    };
    await until('it has read', async () => (await server.health()).isHealthy);
    expect(await health(1)).toEqual({ isHealthy: true, oldestHandler: undefined });

    await nest.emit(pattern, 1);
    await until('the first is old', async () => ((await health(1)).oldestHandler ?? 0) > 50);
    expect((await health(1)).isHealthy).toBe(true); // one place is free
    await nest.emit(pattern, 2);
    await until('both are old', async () => !(await health(50)).isHealthy);
    expect((await health(300_000)).isHealthy).toBe(true);
    expect((await server.health()).isHealthy).toBe(true);

    await nest.emit(pattern, 3);
    gates[0]?.resolve();
    await until('the third has begun', () => started === 3);
    expect((await health(5_000)).isHealthy).toBe(true);
    for (const gate of gates) gate.resolve();
    await nest.untilSettled(pattern);
    expect(await health(1)).toEqual({ isHealthy: true, oldestHandler: undefined });
  },
);

it.each([0, -1, 1.5, NaN, '1000'])('health({ maxOldestHandler: %p }) is refused', async (value) => {
  const client = nest.client();
  await expect(client.unwrap().health({ maxOldestHandler: value as number })).rejects.toMatchObject({
    code: 'ERR_INVALID_OPTION',
    option: 'maxOldestHandler',
  });
});
