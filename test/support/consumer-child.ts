import type { AcknowledgingConsumer } from '../../lib/engine/consuming/consumer-types.js';
import type { ResumableOptions } from '../../lib/engine/options/options.js';
import type { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { ConsumerChildInput } from './consumer-process.js';

// The program of a consumer that the test kills: it reads, acknowledges, reports both, and then stays idle.
const input = JSON.parse(process.argv[2] as string) as ConsumerChildInput;

async function run(): Promise<void> {
  const streamer = await RedisStreamer.connect(input.connection);
  const options = input.options as ResumableOptions & { autoCommit: 'disabled' };
  const consumer: AcknowledgingConsumer = await streamer.createConsumer(input.streamKey, options);
  const messages: StreamMessage[] = [];
  while (messages.length < input.read) messages.push(await consumer.next());
  for (const message of messages.slice(0, input.ack)) consumer.ack(message);
  if (input.commit) await consumer.commit();
  for (const message of messages.slice(input.ack, input.ack + (input.ackLate ?? 0))) consumer.ack(message);
  const read = messages.map((message) => message.text());
  const counts = messages.map(({ deliveryCount }) => deliveryCount);
  process.stdout.write(`${JSON.stringify({ read, counts })}\n`);
}

run().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
