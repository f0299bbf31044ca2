import type { CommittingConsumer } from '../../lib/engine/consuming/consumer-types.js';
import type { ResumableOptions } from '../../lib/engine/options/options.js';
import type { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { ChildOrders } from './consumer-process.js';

// The program of a consumer that is going to be killed: it reads, acknowledges, says so, and stays.
const orders = JSON.parse(process.argv[2] as string) as ChildOrders;

async function run(): Promise<void> {
  const streamer = await RedisStreamer.connect(orders.url);
  const options = orders.options as ResumableOptions & { autoCommit: 'disabled' };
  const consumer: CommittingConsumer = await streamer.createConsumer(orders.streamKey, options);
  const messages: StreamMessage[] = [];
  while (messages.length < orders.read) messages.push(await consumer.next());
  for (const message of messages.slice(0, orders.ack)) consumer.ack(message);
  if (orders.commit) await consumer.commit();
  for (const message of messages.slice(orders.ack, orders.ack + (orders.ackLate ?? 0))) consumer.ack(message);
  const read = messages.map((message) => message.text());
  const counts = messages.map(({ deliveryCount }) => deliveryCount);
  process.stdout.write(`${JSON.stringify({ read, counts })}\n`);
}

run().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
