import { connectionOf, keyOf, openClient } from '../contenders/setting.js';
import { RedisStreamer, RoundRobinSharder } from '../library.js';
import { PAYLOAD } from '../load.js';
import type { Contender, Entrant, Row, Setting } from '../row.js';

const COUNTS = [1, 8, 64];
const MESSAGES = 64_000;
const BATCH = 1_000;

interface Layout {
  readonly streamKeys: readonly string[];
  /** The Redis streams behind them. */
  readonly redisKeys: readonly string[];
  readonly shards: number | undefined;
}

/** Appends to the streams in turn, then reads and acknowledges it all. */
async function open(setting: Setting, { streamKeys, redisKeys, shards }: Layout): Promise<Contender> {
  const redis = openClient(setting);
  for (const key of redisKeys) await redis.xgroup('CREATE', key, 'readers', '$', 'MKSTREAM');
  const streamer = await RedisStreamer.connect(connectionOf(setting));
  const producer = await streamer.createGenericProducer(
    shards === undefined ? {} : { sharder: new RoundRobinSharder(shards) },
  );
  const consumer = await streamer.createConsumer(streamKeys, {
    mode: 'load-balanced',
    group: 'readers',
    autoCommit: 'disabled',
    batchSize: BATCH,
  });
  const messages = MESSAGES * setting.scale;
  return {
    async reset() {
      for (const key of redisKeys) await redis.xtrim(key, 'MAXLEN', 0);
    },
    async work() {
      for (let sent = 0; sent < messages; sent += 1) {
        producer.enqueueTo(streamKeys[sent % streamKeys.length] as string, PAYLOAD);
      }
      await producer.flush();
      for (let seen = 0; seen < messages; seen += 1) consumer.ack(await consumer.next());
      await consumer.commit();
      return { messages };
    },
    async close() {
      await streamer.disconnect();
      await redis.quit();
    },
  };
}

function streams(count: number): Entrant {
  return {
    name: count === 1 ? '1 stream' : `${count} streams`,
    open(setting) {
      const keys = Array.from({ length: count }, (_, index) => keyOf(setting, `of-${count}-streams-${index}`));
      return open(setting, { streamKeys: keys, redisKeys: keys, shards: undefined });
    },
  };
}

function shards(count: number): Entrant {
  return {
    name: count === 1 ? '1 shard' : `${count} shards`,
    open(setting) {
      const key = keyOf(setting, `of-${count}-shards`);
      const redisKeys = Array.from({ length: count }, (_, shard) => `${key}:${shard}`);
      return open(setting, { streamKeys: [key], redisKeys, shards: count });
    },
  };
}

const entrants = [...COUNTS.map(streams), ...COUNTS.map(shards)];
const [baseline, ...others] = entrants.map(({ name }) => name);

export const row: Row = {
  title: 'Cost of a message among growing numbers of streams and shards',
  note: `64,000 messages of 256 bytes, appended to all streams or shards in turn with enqueueTo(), then read by one consumer with
next(), ack() and one commit() at the end, batches of 1,000. The first entrant's stream is not sharded.`,
  metrics: ['cost'],
  ...(baseline !== undefined && { baseline }),
  entrants,
  targets: others.map((entrant) => ({ entrant, metric: 'cost', atMost: 1.2 })),
};
