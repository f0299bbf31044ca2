import { describe, expect, it } from '@jest/globals';

import { RoundRobinSharder } from '../../lib/engine.js';
import type { AcknowledgingConsumer, AutoCommit, BasicConsumer, ConsumerOptions } from '../../lib/engine.js';
import { uniqueName } from '../support/redis.js';
import { useReference } from '../support/reference.js';
import type { ReferenceConsumerConfig, ReferenceMessage } from '../support/reference.js';
import { numbers, take, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const reference = useReference();
const streams = useStreams();

type Mode = ConsumerOptions['mode'];
type Side = 'ours' | 'the reference';
/** A message as both sides report it. */
interface ReportedMessage {
  readonly text: string;
  readonly shardId: string;
  readonly sequence: string;
  readonly time: number;
}

const SHARDS = 3;
const POLICIES: readonly AutoCommit[] = ['immediate', 'delayed', 'rolling', 'disabled'];
/** The end of a consumer of the reference, and its background commits, wait for a blocked read of 1 s. */
const QUICK = { autoCommitInterval: 0, autoStreamReset: 'earliest', batchSize: 10 } as const;

const ofReference = (messages: readonly ReferenceMessage[]): ReportedMessage[] =>
  messages.map(({ text, shardId, sequence, nanoseconds }) => {
    return { text, shardId, sequence, time: Number(BigInt(nanoseconds) / 1_000_000n) };
  });
const byText = (a: ReportedMessage, b: ReportedMessage): number => Number(a.text) - Number(b.text);

/** Sends the texts and returns their receipts, each with its text. */
async function send(side: Side, stream: string, isSharded: boolean, texts: string[]): Promise<ReportedMessage[]> {
  if (side === 'the reference') {
    const producer = await reference.produce(isSharded ? { roundRobin: SHARDS } : undefined);
    const receipts = ofReference(await producer.send(stream, texts));
    return receipts.map((receipt, index) => ({ ...receipt, text: texts[index] as string }));
  }
  const sharder = isSharded ? { sharder: new RoundRobinSharder(SHARDS) } : {};
  const producer = await (await streams.connect()).createProducer(stream, sharder);
  return Promise.all(
    texts.map(async (text) => {
      const { shardId, sequence, timestamp } = await producer.send(text);
      return { text, shardId: String(shardId), sequence: String(sequence), time: timestamp.getTime() };
    }),
  );
}

interface Reader {
  /** Reads `count` messages, sorts them by text, and acknowledges them if the policy requires it. */
  read(count: number): Promise<ReportedMessage[]>;
  /** Ends in the way of a process that is shut down. */
  end(): Promise<void>;
}

async function open(side: Side, stream: string, config: ReferenceConsumerConfig): Promise<Reader> {
  const acks = config.autoCommit === 'rolling' || config.autoCommit === 'disabled';
  if (side === 'the reference') {
    const consumer = await reference.consume(stream, config);
    return {
      async read(count) {
        const messages = await consumer.take(count);
        if (acks) await consumer.ack(messages);
        if (config.autoCommit === 'disabled') await consumer.commit();
        if (config.autoCommit === 'rolling') await consumer.commitAsap();
        return ofReference(messages).sort(byText);
      },
      end: () => consumer.end(),
    };
  }
  const streamer = await streams.connect();
  const consumer: BasicConsumer = await streamer.createConsumer(stream, config as ConsumerOptions);
  return {
    async read(count) {
      const messages = await take(consumer, count);
      if (acks) for (const message of messages) (consumer as AcknowledgingConsumer).ack(message);
      return messages
        .map((message) => ({
          text: message.text(),
          shardId: String(message.shardId),
          sequence: String(message.sequence),
          time: message.timestamp.getTime(),
        }))
        .sort(byText);
    },
    end: () => consumer.end(),
  };
}

const sides = [
  ['ours', 'the reference'],
  ['the reference', 'ours'],
] as const;

describe.each([
  ['a stream', false],
  ['a sharded stream', true],
])('%s', (_name, isSharded) => {
  const keys = (stream: string): string[] =>
    isSharded ? Array.from({ length: SHARDS }, (_, shard) => `${stream}:${shard}`) : [stream];

  it.each(sides)(
    'that %s writes is read by %s in real-time mode, with the same shards, sequences and times',
    async (writer, reader) => {
      const stream = uniqueName('interop');
      const sent = await send(writer, stream, isSharded, numbers(0, 9));
      const consumer = await open(reader, stream, { mode: 'real-time', autoStreamReset: 'earliest' });
      expect(await consumer.read(10)).toEqual(sent);
      const later = await send(writer, stream, isSharded, numbers(10, 12));
      expect(await consumer.read(3)).toEqual(later);
    },
  );

  const cases = (['resumable', 'load-balanced'] as const satisfies readonly Mode[]).flatMap((mode) =>
    POLICIES.flatMap((autoCommit) => sides.map(([first, second]) => [mode, autoCommit, first, second] as const)),
  );
  it.each(cases)(
    'in a %s group with autoCommit %s: where %s stopped, %s continues, and nothing is skipped or repeated',
    async (mode, autoCommit, first, second) => {
      const stream = uniqueName('interop');
      const delay = autoCommit === 'delayed' ? { autoCommitDelay: 0 } : {};
      const config: ReferenceConsumerConfig = { mode, autoCommit, group: 'workers', ...QUICK, ...delay };
      // Each side reads what the other one writes.
      const early = await send(second, stream, isSharded, numbers(0, 4));
      const before = await open(first, stream, config);
      expect(await before.read(5)).toEqual(early);
      await before.end();
      const late = await send(first, stream, isSharded, numbers(5, 9));
      const after = await open(second, stream, config);
      expect(await after.read(5)).toEqual(late);
      await after.end();
      await until('nothing is pending', async () => {
        const pending = await Promise.all(keys(stream).map((key) => streams.redis.xpending(key, 'workers')));
        return pending.every(([count]) => count === 0);
      });
    },
  );
});
