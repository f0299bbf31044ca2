import { addToBullMQ } from '../contenders/bullmq.js';
import { appendByHand } from '../contenders/by-hand.js';
import { sendEach } from '../contenders/engine.js';
import type { Row } from '../row.js';

const SEND = 'send(), each awaited';

export const row: Row = {
  title: 'Appending with a receipt for each message',
  note: `200,000 messages of 256 bytes to a new stream. By hand: ioredis pipelines of 1,000 XADDs, four of them in flight. Here:
4,000 calls of send() at a time, the next as soon as one has its receipt.`,
  metrics: ['rate'],
  baseline: appendByHand.name,
  entrants: [appendByHand, sendEach(SEND), addToBullMQ],
  targets: [{ entrant: SEND, metric: 'rate', atLeast: 1.5 }],
};
