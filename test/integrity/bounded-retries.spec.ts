import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from '@jest/globals';

import { onEvent } from '../support/controllers.js';
import { FloodBench, GROUP } from '../support/flood-bench.js';
import { flood, deliveredCount } from '../support/flood.js';
import { startInstance } from '../support/instances.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const MESSAGES = 15_000;
/** As many may wait for their retry; prefetch and handlers come on top. */
const MOST_TAKEN = 10_000 + 1_100;
const bench = new FloodBench();

it('a service whose handlers all fail takes so many messages and no more, and handles all once they succeed', async () => {
  const stream = uniqueName('sick');
  let isSick = true;
  let failures = 0;
  const sick = onEvent(stream, (_data, context) => {
    if (isSick) {
      failures += 1;
      throw new Error('the database is down');
    }
    bench.ledger.handledMessage(context.getMessage());
  });
  await flood(bench.producer, bench.ledger, stream, MESSAGES);
  await startInstance(bench.faults, sick, { ...bench.service, retry: { attempts: 10, delay: 15_000, factor: 1 } });
  let before = -1;
  await until(
    'it takes no more',
    async () => {
      const isStill = failures === before;
      before = failures;
      if (!isStill) await pause(500);
      return isStill;
    },
    30_000,
  );
  const taken = await deliveredCount(bench.admin, GROUP, [stream]);
  isSick = false;

  await bench.settle(1);
  expect(taken).toBeGreaterThanOrEqual(10_000);
  expect(taken).toBeLessThan(MOST_TAKEN);
}, 90_000);
