import { expect, it } from '@jest/globals';

import { FaultBench } from '../support/fault-bench.js';
import { useMemoryProcesses } from '../support/memory-process.js';
import { uniqueName } from '../support/redis.js';
import { useTally } from '../support/tally.js';

const LIMIT = 60_000;
/** Of the messages one in so many waits: about one of each page. */
const EVERY = 200;
const WAITING = 1_000;
const SIZE = 300;
/** In MiB. The messages have 0.3 MiB, their pages 57 MiB; the rest is the heap of a service that has begun to work. */
const MOST_GROWTH = 16;
const FILL = `
for n = ARGV[1], ARGV[2] - 1 do
  local key = n % ${EVERY} == 0 and 'stuck' or 'key-' .. n
  redis.call('XADD', KEYS[1], '*', 'msg', '{"n":' .. n .. ',"pad":"' .. string.rep('.', ${SIZE}) .. '"}', 'h:key', key)
end`;

const tally = useTally();
const startProcess = useMemoryProcesses();
const bench = new FaultBench();

it.each([
  ['wait for their retry', false, WAITING],
  ['wait behind one of their key in ordered lanes', true, 1],
])(
  'messages that %s keep their own bytes, not those of the pages in which they came',
  async (_, ordered, failures) => {
    const redis = await bench.redis({ isDurable: false });
    const admin = redis.client();
    const stream = uniqueName('waiting');
    const backlog = WAITING * EVERY;
    for (let first = 0; first < backlog; first += 10_000) await admin.eval(FILL, 1, stream, first, first + 10_000);
    const service = await startProcess({
      work: 'wait',
      connection: redis.connection,
      stream,
      ordered,
      every: EVERY,
      backlog,
    });
    const waiting = await service.report('waiting', LIMIT);
    const begun = await service.report('begun', 0);

    const { handled = 0, failed = 0 } = waiting.counts;
    tally({ faults: failed, sends: backlog, handled, duplicates: 0, lost: 0 });
    expect({ handled, failed }).toEqual({ handled: backlog - WAITING, failed: failures });
    expect(waiting.live - begun.live).toBeLessThan(MOST_GROWTH);
  },
  LIMIT,
);
