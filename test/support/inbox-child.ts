import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { RedisStreamsConnection } from '../../lib/redis/connection/connection-target.js';

export interface InboxInput {
  connection: RedisStreamsConnection;
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

/** In a cluster the record of a message and the work are in one slot. */
const balanceOf = (key: string): string => `{${key}}:balance`;

// The program of a consumer that exits between its work and the acknowledgement, or before the work is recorded.
const { connection, stream, consumer: name } = JSON.parse(process.argv[2] as string) as InboxInput;

async function run(): Promise<void> {
  process.stdin.on('close', () => process.exit()).resume();
  const streamer = await RedisStreamer.connect(connection, { blockTimeout: 500 });
  const inbox = streamer.createInbox('accounting');
  const consumer = await streamer.createConsumer(stream, {
    mode: 'load-balanced',
    // What is buffered is delivered for the second time after a crash: never two messages that cause one.
    batchSize: 10,
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
      return [['INCRBY', balanceOf(stream), amount]];
    });
    if (isFirst && crash === 'before-ack') process.exit(7);
    consumer.ack(message);
  }
}

void run();
