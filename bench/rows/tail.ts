import { fillBacklog } from '../contenders/backlog.js';
import { readByHand } from '../contenders/by-hand.js';
import { iterate } from '../contenders/engine.js';
import type { Row } from '../row.js';

const TAIL = 'for await of a real-time consumer';

export const row: Row = {
  title: 'Reading a backlog without a group',
  note: `200,000 messages of 256 bytes. By hand: XREADGROUP COUNT 1000, then one XACK for the page. Here: a real-time consumer
with batches of 1,000, which has nothing to acknowledge, from its opening to its end.`,
  metrics: ['rate'],
  baseline: readByHand.name,
  setUp: fillBacklog,
  entrants: [readByHand, iterate(TAIL, 1_000)],
  targets: [{ entrant: TAIL, metric: 'rate', atLeast: 1.4 }],
};
