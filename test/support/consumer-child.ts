import type { CommittingConsumer } from '../../lib/engine/consumer-types.js';
import type { ResumableOptions } from '../../lib/engine/options.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { ChildOrders } from './consumer-process.js';

// The program of a consumer that is going to be killed: it reads, acknowledges, says so, and stays.
const orders = JSON.parse(process.argv[2] as string) as ChildOrders;

async function run(): Promise<void> {
  const streamer = await RedisStreamer.connect(orders.url);
  const options = orders.options as ResumableOptions & { autoCommit: 'disabled' };
  const consumer: CommittingConsumer = await streamer.createConsumer(orders.streamKey, options);
  const read: string[] = [];
  for (let index = 0; index < orders.read; index += 1) {
    const message = await consumer.next();
    read.push(message.text());
    if (index < orders.ack) consumer.ack(message);
  }
  if (orders.commit) await consumer.commit();
  process.stdout.write(`${JSON.stringify(read)}\n`);
}

run().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
