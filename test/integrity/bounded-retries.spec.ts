import { setTimeout as pause } from 'node:timers/promises';
import { expect, it } from '@jest/globals';

import { onEvent } from '../support/controllers.js';
import { FloodBench, GROUP } from '../support/flood-bench.js';
import { flood, deliveredCount } from '../support/flood.js';
import { startInstance } from '../support/instances.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const MESSAGES = 15_000;
/** The limit of messages that wait for their retry, plus prefetch and handlers. */
const MOST_TAKEN = 10_000 + 1_100;
const bench = new FloodBench();

it('a service stops reading when 10,000 messages wait for their retry, and handles all when its handlers succeed', async () => {
  const stream = uniqueName('failing');
  let isFailing = true;
  let failures = 0;
  const failing = onEvent(stream, (_data, context) => {
    if (isFailing) {
      failures += 1;
      throw new Error('the database is down');
    }
    bench.ledger.handledMessage(context.getMessage());
  });
  await flood(bench.producer, bench.ledger, stream, MESSAGES);
  await startInstance(bench.faults, failing, { ...bench.service, retry: { attempts: 10, delay: 15_000, factor: 1 } });
  let before = -1;
  await until(
    'the service has stopped reading',
    async () => {
      const isStill = failures === before;
      before = failures;
      if (!isStill) await pause(500);
      return isStill;
    },
    30_000,
  );
  const taken = await deliveredCount(bench.admin, GROUP, [stream]);
  isFailing = false;

  await bench.expectHandledOnce(1);
  expect(taken).toBeGreaterThanOrEqual(10_000);
  expect(taken).toBeLessThan(MOST_TAKEN);
}, 90_000);
