import type { Receipt, RedisStreamsError, Sharder, StreamManager, StreamMessage } from '../../lib/index.js';
import { KeyHashSharder, RedisStreamer, RoundRobinSharder } from '../../lib/index.js';

declare const manager: StreamManager;

export async function producing(): Promise<void> {
  await using streamer = await RedisStreamer.connect({ host: 'localhost' }, { keyPrefix: 'app:' });
  const producer = await streamer.createProducer('orders', { sharder: new RoundRobinSharder(3), maxLen: 1_000 });
  const options = { timestamp: new Date(), key: 'customer-7', headers: { traceparent: '00' } };
  const receipt: Receipt = await producer.send('text', options);
  const sequence: bigint = receipt.sequence;
  const shard: number = receipt.shardId;
  producer.enqueue(new Uint8Array([1, 2, 3]));
  producer.on('error', (error: RedisStreamsError) => error.code.toLowerCase());
  const trimmed: number = await producer.trimMaxLen('orders', 10);
  void [sequence, shard, trimmed];

  await producer.send('x', { deduplication: { id: 'outbox-1', within: 3_600_000 } });

  const { deliverAt }: Receipt = await producer.send('x', { delay: 60_000 });
  const due: Date | undefined = deliverAt;
  await producer.send('x', { deliverAt: new Date() });
  const [waiting] = await manager.delayed('orders', { count: 10 });
  const isCancelled: boolean = await manager.cancelDelayed('orders', waiting?.id ?? '');
  void [due, isCancelled];

  // @ts-expect-error a delay is a number of milliseconds
  await producer.send('x', { delay: '1m' });
  // @ts-expect-error a time is a Date
  await producer.send('x', { deliverAt: Date.now() });
  // @ts-expect-error an id is recognised for a time
  await producer.send('x', { deduplication: { id: 'outbox-1' } });
  // @ts-expect-error a payload is text or bytes; objects are serialized by the caller
  await producer.send({ total: 5 });
  // @ts-expect-error a time is a Date
  await producer.send('x', { timestamp: Date.now() });
  // @ts-expect-error headers are text
  await producer.send('x', { headers: { attempt: 1 } });
  // @ts-expect-error the stream comes first
  await producer.sendTo('x');
  // @ts-expect-error without a receipt there is nothing to wait for
  const none: Promise<Receipt> = producer.enqueue('x');
  void none;
  // @ts-expect-error a misspelt option
  await streamer.createProducer('orders', { maxlen: 5 });
  // @ts-expect-error there is no such delivery
  await streamer.createProducer('orders', { delivery: 'perhaps' });
  // @ts-expect-error a sharder tells how many shards there are
  await streamer.createProducer('orders', { sharder: { shardOf: () => 0 } });
  // @ts-expect-error a receipt cannot be changed
  receipt.id = '1-1';
}

export const ownSharder: Sharder = { shards: 2, shardOf: (_stream, key) => (key === 'vip' ? 1 : 0) };
export const byKey: Sharder = new KeyHashSharder(3);

export async function managing(): Promise<void> {
  const { cursor, streams } = await manager.scan();
  const messages: StreamMessage[] = await manager.range(streams[0] ?? '', { after: new Date() }, '+', { count: 5 });
  const [group] = await manager.groups('orders');
  const lag: number | undefined = group?.lag;
  await manager.setGroupPosition('orders', 'workers', { id: '1-1' });
  void [cursor, messages, lag];

  // @ts-expect-error a number is no bound
  await manager.range('orders', 5, '+');
  // @ts-expect-error there is no such place
  await manager.setGroupPosition('orders', 'workers', 'start');
  // @ts-expect-error a message cannot be changed
  messages[0].id = '1-1';
}
