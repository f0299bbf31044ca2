import { RedisStreamer } from '../../lib/engine/streamer.js';

export interface InboxInput {
  url: string;
  stream: string;
  consumer: string;
}

/** The amount to book, and the point at which the first process that receives the message exits. */
export interface Booking {
  amount: number;
  crash?: 'before-record' | 'before-ack';
}

export interface InboxLine {
  given: number;
  deliveryCount: number;
}

// The program of a consumer that exits between its work and the acknowledgement, or before the work is recorded.
const { url, stream, consumer: name } = JSON.parse(process.argv[2] as string) as InboxInput;

async function run(): Promise<void> {
  process.stdin.on('close', () => process.exit()).resume();
  const streamer = await RedisStreamer.connect(url, { blockTimeout: 500 });
  const inbox = streamer.createInbox('accounting');
  const consumer = await streamer.createConsumer(stream, {
    mode: 'load-balanced',
    group: 'accounting',
    consumer: name,
    autoStreamReset: 'earliest',
    autoCommit: 'rolling',
    autoCommitInterval: 200,
  });
  for await (const message of consumer) {
    const { amount, crash } = message.json<Booking>();
    const isFirst = message.deliveryCount === 1;
    const line: InboxLine = { given: amount, deliveryCount: message.deliveryCount };
    process.stdout.write(`${JSON.stringify(line)}\n`);
    await inbox.once(message, async () => {
      if (isFirst && crash === 'before-record') process.exit(7);
      return [['INCRBY', 'balance', amount]];
    });
    if (isFirst && crash === 'before-ack') process.exit(7);
    consumer.ack(message);
  }
}

void run();
