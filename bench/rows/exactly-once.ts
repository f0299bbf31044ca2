import { appendByHand } from '../contenders/by-hand.js';
import { enqueueAll } from '../contenders/engine.js';
import type { Row } from '../row.js';

const EXACTLY_ONCE = "enqueue() with delivery 'exactly-once'";

export const row: Row = {
  title: 'Appending exactly once',
  note: `200,000 messages of 256 bytes to a new stream. By hand: ioredis pipelines of 1,000 XADDs, four of them in flight, and
a lost reply means duplicates or gaps. Here: the server knows again what it has already appended.`,
  metrics: ['rate'],
  baseline: appendByHand.name,
  entrants: [appendByHand, enqueueAll(EXACTLY_ONCE, 'exactly-once')],
  targets: [{ entrant: EXACTLY_ONCE, metric: 'rate', atLeast: 1.8 }],
};
