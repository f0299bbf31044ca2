import type { AcknowledgingConsumer, BasicConsumer, StreamMessage } from '../../lib/index.js';
import type { RedisStreamer } from '../library.js';

export const GROUP = 'readers';

/** `next()` and `ack()` for each message, with rolling commits; joining and leaving the group is part of it. */
export async function consume(
  streamer: RedisStreamer,
  keys: string | readonly string[],
  messages: number,
  options: { autoClaimIdle?: number } = {},
): Promise<void> {
  await handle(await join(streamer, keys, options), messages);
}

/** A consumer that has joined the group, and begins to read. */
export async function join(
  streamer: RedisStreamer,
  keys: string | readonly string[],
  options: { autoClaimIdle?: number } = {},
): Promise<AcknowledgingConsumer> {
  return streamer.createConsumer(keys, {
    mode: 'load-balanced',
    group: GROUP,
    autoStreamReset: 'earliest',
    autoCommit: 'rolling',
    ...options,
  });
}

/** `next()` and `ack()` for each message; leaving the group is part of it. */
export async function handle(consumer: AcknowledgingConsumer, messages: number): Promise<void> {
  for (let seen = 0; seen < messages; seen += 1) consumer.ack(await consumer.next());
  await consumer.end();
}

/** `for await` over messages from the first entry on, without a group; creating and ending the consumer is part of it. */
export async function tail(streamer: RedisStreamer, keys: string | readonly string[], messages: number): Promise<void> {
  await drain(await openTail(streamer, keys), messages);
}

/** A consumer without a group that begins to read. */
export async function openTail(streamer: RedisStreamer, keys: string | readonly string[]): Promise<BasicConsumer> {
  return streamer.createConsumer(keys, { mode: 'real-time', autoStreamReset: 'earliest', batchSize: 1_000 });
}

/** `for await`; ending the consumer is part of it. */
export async function drain(consumer: BasicConsumer, messages: number): Promise<void> {
  let left = messages;
  const isLast = (_message: StreamMessage): boolean => (left -= 1) === 0;
  for await (const message of consumer) if (isLast(message)) break;
  await consumer.end();
}
