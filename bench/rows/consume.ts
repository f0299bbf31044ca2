import { fillBacklog } from '../contenders/backlog.js';
import { workOffBullMQ } from '../contenders/bullmq.js';
import { readByHand } from '../contenders/by-hand.js';
import { acknowledgeEach } from '../contenders/engine.js';
import { readOneByOne } from '../contenders/one-by-one.js';
import type { Row } from '../row.js';

const CONSUME = 'next() and ack()';

export const row: Row = {
  title: 'Reading a backlog through a group, each message acknowledged',
  note: `200,000 messages of 256 bytes. By hand: XREADGROUP COUNT 1000, then one XACK for the page. Here: a load-balanced consumer
with rolling commit and batches of 1,000, from joining the group until it has left with everything committed.
BullMQ: 20,000 jobs, 100 at a time.`,
  metrics: ['rate'],
  baseline: readByHand.name,
  setUp: fillBacklog,
  entrants: [readByHand, acknowledgeEach(CONSUME, 1_000), readOneByOne, workOffBullMQ],
  targets: [{ entrant: CONSUME, metric: 'rate', atLeast: 1 }],
};
