import { Redis } from 'ioredis';

import type { BasicConsumer } from '../../lib/engine/consuming/consumer-types.js';
import type { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { OwnedChildInput, OwnedChildLine } from './owned-process.js';
import { OWNED } from './shard-recorder.js';

// The program of a member of a group with owned shards. It writes each message to a central recorder before it acknowledges it.
const input = JSON.parse(process.argv[2] as string) as OwnedChildInput;

/** KEYS: tokens by shard, handlings. A lower token than the last one of the shard is refused and counted, as a database does. */
const RECORD = `
if tonumber(ARGV[2]) < tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0) then
  redis.call('HINCRBY', KEYS[1], 'refused', 1)
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('RPUSH', KEYS[2], ARGV[3])
return 1`;

function report(line: OwnedChildLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

function moveClock(offset: number): void {
  const { now } = Date;
  Date.now = () => now() + offset;
}

/** Undefined when the signal aborts. */
async function nextUntil(consumer: BasicConsumer, signal: AbortSignal): Promise<StreamMessage | undefined> {
  try {
    return await consumer.next({ signal });
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

async function run(): Promise<void> {
  moveClock(input.clock);
  const recorder = new Redis(input.recorder, { protocol: 2 });
  const streamer = await RedisStreamer.connect(input.connection, { blockTimeout: 1_000, timeout: 30_000 });
  const consumer = await streamer.createConsumer(input.stream, { ...OWNED, shards: input.shards });
  const leaving = new AbortController();
  process.once('SIGTERM', () => leaving.abort());
  consumer.on('error', ({ code }) => report({ error: code }));
  consumer.on('assigned', ({ shardId }) => report({ assigned: shardId }));
  consumer.on('revoked', ({ shardId }) => report({ revoked: shardId }));
  // It ends between two messages: of one that is handled when the consumer ends, the acknowledgement comes too late.
  for (;;) {
    const message = await nextUntil(consumer, leaving.signal);
    if (!message) break;
    const { shardId, id, fencingToken } = message;
    const handling = JSON.stringify({
      member: input.name,
      shardId,
      id,
      token: String(fencingToken),
      text: message.text(),
    });
    await recorder.eval(RECORD, 2, 'tokens', 'handled', shardId, String(fencingToken), handling);
    consumer.ack(message);
  }
  await consumer.end();
  await streamer.disconnect();
  recorder.disconnect();
  process.exit(0);
}

void run();
