import { addBulkToBullMQ } from '../contenders/bullmq.js';
import { appendByHand } from '../contenders/by-hand.js';
import { enqueueAll } from '../contenders/engine.js';
import { appendOneByOne } from '../contenders/one-by-one.js';
import type { Row } from '../row.js';

const ENQUEUE = 'enqueue() and flush()';

export const row: Row = {
  title: 'Appending without receipts',
  note: `200,000 messages of 256 bytes to a new stream. By hand: ioredis pipelines of 1,000 XADDs, four of them in flight, and
no repetition of what fails. Here: every message is queued at once (maxQueued 200,000), then one flush().`,
  metrics: ['rate'],
  baseline: appendByHand.name,
  entrants: [appendByHand, enqueueAll(ENQUEUE, 'at-least-once'), appendOneByOne, addBulkToBullMQ],
  targets: [{ entrant: ENQUEUE, metric: 'rate', atLeast: 2.5 }],
};
