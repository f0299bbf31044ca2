import { fillBacklog } from '../contenders/backlog.js';
import { acknowledgeEach, enqueueAll, iterate } from '../contenders/engine.js';
import { inC } from '../contenders/programs.js';
import type { Row } from '../row.js';

const ENQUEUE = 'enqueue() and flush()';
const CONSUME = 'next() and ack()';
const TAIL = 'for await of a real-time consumer';

const appendInC = inC('XADD pipelines in C', 'append');
const consumeInC = inC('XREADGROUP and XACK in C', 'consume');
const tailInC = inC('XREAD in C', 'tail');

/** C reads 200,000 messages in 0.15 s. In so short a round, joining the group and JIT compilation dominate. */
const LONG = 5;

const common = { metrics: ['rate', 'cpu'], needs: 'c' } as const;

export const enqueue: Row = {
  ...common,
  title: 'Beside C: appending without receipts',
  note: `200,000 messages of 256 bytes to a new stream. C: hiredis, pipelines of 1,000 XADDs, each after the replies to the one
before. Here: every message is queued at once (maxQueued 200,000), then one flush().`,
  baseline: appendInC.name,
  entrants: [appendInC, enqueueAll(ENQUEUE, 'at-least-once')],
  targets: [],
  goals: [{ entrant: ENQUEUE, metric: 'rate', atLeast: 0.95 }],
};

export const consume: Row = {
  ...common,
  title: 'Beside C: reading a backlog through a group, each message acknowledged',
  note: `1,000,000 messages of 256 bytes. C: hiredis, XREADGROUP COUNT 1000 and one XACK for each page; the next page is requested
before a page is acknowledged. Here: a load-balanced consumer with rolling commit and batches of 1,000, from joining the group
until it has left with everything committed.`,
  scale: LONG,
  baseline: consumeInC.name,
  setUp: fillBacklog,
  entrants: [consumeInC, acknowledgeEach(CONSUME, 1_000)],
  targets: [],
  goals: [{ entrant: CONSUME, metric: 'rate', atLeast: 0.75 }],
};

export const tail: Row = {
  ...common,
  title: 'Beside C: reading a backlog without a group',
  note: `1,000,000 messages of 256 bytes. C: hiredis, XREAD COUNT 1000; the next page is requested as soon as a page has arrived.
Here: a real-time consumer with batches of 1,000, from its opening to its end.`,
  scale: LONG,
  baseline: tailInC.name,
  setUp: fillBacklog,
  entrants: [tailInC, iterate(TAIL, 1_000)],
  targets: [],
  goals: [{ entrant: TAIL, metric: 'rate', atLeast: 0.65 }],
};
