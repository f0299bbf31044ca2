import type { ConsumerOptions, StreamMessage } from '../../lib/index.js';
import type { RedisStreamer } from '../library.js';

export const GROUP = 'readers';

/** `next()` and `ack()` for each message, with rolling commits; joining and leaving the group is part of it. */
export async function consume(
  streamer: RedisStreamer,
  keys: string | readonly string[],
  messages: number,
  options: { autoClaimIdle?: number } = {},
): Promise<void> {
  const consumer = await streamer.createConsumer(keys, {
    mode: 'load-balanced',
    group: GROUP,
    autoStreamReset: 'earliest',
    autoCommit: 'rolling',
    ...options,
  });
  for (let seen = 0; seen < messages; seen += 1) consumer.ack(await consumer.next());
  await consumer.end();
}

/** `for await` over messages from the first entry on, without a group; creating and ending the consumer is part of it. */
export async function tail(streamer: RedisStreamer, keys: string | readonly string[], messages: number): Promise<void> {
  const options = { mode: 'real-time', autoStreamReset: 'earliest', batchSize: 1_000 } satisfies ConsumerOptions;
  const consumer = await streamer.createConsumer(keys, options);
  let left = messages;
  const isLast = (_message: StreamMessage): boolean => (left -= 1) === 0;
  for await (const message of consumer) if (isLast(message)) break;
  await consumer.end();
}
