import { fillBacklog } from '../contenders/backlog.js';
import { acknowledgeEach, commitEvery, iterate, sendAll, sendEach } from '../contenders/engine.js';
import { inRust } from '../contenders/programs.js';
import { SERVICE_WARM_UPS } from '../load.js';
import type { Entrant, Row, Target } from '../row.js';

const BATCH = 1_000;

/** Both sides of a row, and what ours should reach: so many times the messages, and at most so many times the CPU time. */
interface Sides {
  readonly rust: Entrant;
  readonly ours: Entrant;
  readonly rate?: number;
  readonly cpu?: number;
}

function beside({ rust, ours, rate, cpu }: Sides, described: Pick<Row, 'title' | 'note' | 'setUp'>): Row {
  const { name: entrant } = ours;
  const goals: Target[] = [];
  if (rate !== undefined) goals.push({ entrant, metric: 'rate', atLeast: rate });
  if (cpu !== undefined) goals.push({ entrant, metric: 'cpu', atMost: cpu });
  return {
    ...described,
    metrics: ['rate', 'cpu'],
    needs: 'rust',
    warmUps: SERVICE_WARM_UPS,
    baseline: rust.name,
    entrants: [rust, ours],
    targets: [],
    goals,
  };
}

const APPENDED = '200,000 messages of 256 bytes to a new stream, here and with sea-streamer-redis:';
/** What the rows with rolling commit do not measure. */
const WITHOUT_END = 'In Rust up to the last ack(), because its end may wait up to 10 s for a blocked read.';
const READ = '200,000 messages of 256 bytes, from joining the group until it has left with everything committed:';

export const send = beside(
  {
    rust: inRust('send() unawaited in Rust', 'append', 'send'),
    ours: sendAll('send() unawaited'),
    rate: 1.2,
  },
  {
    title: 'Beside Rust: sending without a look at the receipts',
    note: `${APPENDED} every send() at once, then one flush().`,
  },
);

export const sendAwaited = beside(
  {
    rust: inRust('send() awaited in Rust', 'append', 'send-awaited'),
    ours: sendEach('send(), each awaited'),
    rate: 1.8,
  },
  {
    title: 'Beside Rust: sending with a receipt for each message',
    note: `${APPENDED} 4,000 calls of send() in flight.`,
  },
);

export const rolling = beside(
  {
    rust: inRust('rolling commit in Rust', 'consume', 'rolling'),
    ours: acknowledgeEach('rolling commit'),
    rate: 3,
  },
  {
    title: 'Beside Rust: a group with rolling commit and default batches',
    note: `${READ} next() and ack() for each. The default batch is 10 in Rust; here it adapts.
${WITHOUT_END}`,
    setUp: fillBacklog,
  },
);

export const rollingByThousand = beside(
  {
    rust: inRust('rolling commit in Rust', 'consume', 'rolling', BATCH),
    ours: acknowledgeEach('rolling commit', BATCH),
    rate: 4.5,
  },
  {
    title: 'Beside Rust: a group with rolling commit and batches of 1,000',
    note: `${READ} next() and ack() for each.
${WITHOUT_END}`,
    setUp: fillBacklog,
  },
);

export const commitEachThousand = beside(
  {
    rust: inRust('commit() of 1,000 in Rust', 'consume', 'commit-1000', BATCH),
    ours: commitEvery('commit() of 1,000', BATCH, 1_000),
    rate: 1.3,
    cpu: 1.2,
  },
  {
    title: 'Beside Rust: a group with a commit for each 1,000 messages',
    note: `${READ} autoCommit 'disabled', batches of 1,000, next() and ack() for each, and commit() awaited after each 1,000.`,
    setUp: fillBacklog,
  },
);

export const commitAtEnd = beside(
  {
    rust: inRust('one commit() in Rust', 'consume', 'commit-at-end', BATCH),
    ours: commitEvery('one commit()', BATCH, Infinity),
    rate: 1.1,
    cpu: 1.2,
  },
  {
    title: 'Beside Rust: a group with one commit at the end',
    note: `${READ} autoCommit 'disabled', batches of 1,000, next() and ack() for each, and one commit() at the end.`,
    setUp: fillBacklog,
  },
);

export const tail = beside(
  {
    rust: inRust('real-time consumer in Rust', 'tail', 'tail', BATCH),
    ours: iterate('for await of a real-time consumer', BATCH),
  },
  {
    title: 'Beside Rust: reading a backlog without a group',
    note: `200,000 messages of 256 bytes, batches of 1,000, from opening a real-time consumer to its end. In Rust up to the last
message, because its end waits up to 10 s for a blocked read. There is no goal.`,
    setUp: fillBacklog,
  },
);
