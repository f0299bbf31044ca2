import type {
  AcknowledgingConsumer,
  BasicConsumer,
  ConsumerOptions,
  RedisStreamer,
  StreamConsumer,
  StreamMessage,
} from '../../lib/index.js';

declare const streamer: RedisStreamer;
declare const message: StreamMessage;

export async function realTime(): Promise<void> {
  const consumer = await streamer.createConsumer('orders', {
    mode: 'real-time',
    autoStreamReset: 'earliest',
    batchSize: 5,
  });
  const next: StreamMessage = await consumer.next({ signal: AbortSignal.timeout(1) });
  await consumer.seek(next.timestamp);
  await consumer.rewind({ id: next.id });
  for await (const each of consumer) each.json<{ total: number }>().total.toFixed();
  await consumer.end();

  // @ts-expect-error nothing is pending in real-time mode
  consumer.ack(message);
  // @ts-expect-error nothing is pending in real-time mode
  consumer.ackWith('orders', 0, '1-1');
  // @ts-expect-error nothing is pending in real-time mode
  await consumer.commit();

  // @ts-expect-error there is no group in real-time mode
  await streamer.createConsumer('orders', { mode: 'real-time', group: 'g' });
  // @ts-expect-error there is no group in real-time mode
  await streamer.createConsumer('orders', { mode: 'real-time', consumer: 'c' });
  // @ts-expect-error nothing is committed in real-time mode
  await streamer.createConsumer('orders', { mode: 'real-time', autoCommit: 'rolling' });
  // @ts-expect-error nothing is committed in real-time mode
  await streamer.createConsumer('orders', { mode: 'real-time', autoCommitInterval: 5 });
  // @ts-expect-error nothing is claimed in real-time mode
  await streamer.createConsumer('orders', { mode: 'real-time', autoClaimIdle: 5 });
  // @ts-expect-error a reader creates no stream
  await streamer.createConsumer('orders', { mode: 'real-time', mkStream: true });
}

export async function resumable(): Promise<void> {
  const delayed = await streamer.createConsumer(['a', 'b'], { mode: 'resumable', group: 'g', autoCommitDelay: 5 });
  const immediate = await streamer.createConsumer('a', { mode: 'resumable', autoCommit: 'immediate' });
  const rolling = await streamer.createConsumer('a', { mode: 'resumable', autoCommit: 'rolling', mkStream: true });
  const disabled = await streamer.createConsumer('a', { mode: 'resumable', autoCommit: 'disabled' });

  rolling.ack(message);
  rolling.ackWith('a', 0, '1-1');
  disabled.ack(message);
  disabled.ackWith('a', 0, '1-1');
  await disabled.commit();

  // @ts-expect-error delayed acknowledges by itself
  delayed.ack(message);
  // @ts-expect-error delayed commits by itself
  await delayed.commit();
  // @ts-expect-error immediate has nothing to acknowledge
  immediate.ack(message);
  // @ts-expect-error immediate has nothing to acknowledge
  immediate.ackWith('a', 0, '1-1');
  await rolling.commit();

  // @ts-expect-error claiming is for load-balanced mode
  await streamer.createConsumer('a', { mode: 'resumable', autoClaimInterval: 5 });
  // @ts-expect-error claiming is for load-balanced mode
  await streamer.createConsumer('a', { mode: 'resumable', autoClaimIdle: 5 });
  await streamer.createConsumer('a', { mode: 'resumable', position: 'consumer' });
  // @ts-expect-error a group of many readers has one position
  await streamer.createConsumer('a', { mode: 'load-balanced', position: 'consumer' });
  // @ts-expect-error the shards of a resumable group have one reader
  await streamer.createConsumer('a', { mode: 'resumable', shardOwnership: 'shared' });
}

export async function loadBalanced(): Promise<void> {
  const options = { mode: 'load-balanced', group: 'g', autoClaimInterval: false, autoClaimIdle: 5_000 } as const;
  const delayed = await streamer.createConsumer('a', options);
  const rolling = await streamer.createConsumer('a', { ...options, autoCommit: 'rolling' });
  const disabled = await streamer.createConsumer('a', { ...options, autoCommit: 'disabled', shardOwnership: 'shared' });

  rolling.ack(message);
  disabled.ack(message);
  await disabled.commit();
  const isEither = Math.random() < 0.5;
  const either = await streamer.createConsumer('a', { ...options, autoCommit: isEither ? 'rolling' : 'disabled' });
  either.ack(message);

  // @ts-expect-error delayed acknowledges by itself
  delayed.ack(message);
  // @ts-expect-error delayed commits by itself
  await delayed.commit();
  await rolling.commit();
  await either.commit();
}

export async function wrongOptions(): Promise<void> {
  // @ts-expect-error a mode must be named
  await streamer.createConsumer('a', {});
  // @ts-expect-error there is no such mode
  await streamer.createConsumer('a', { mode: 'realtime' });
  // @ts-expect-error a misspelt option
  await streamer.createConsumer('a', { mode: 'resumable', batchsize: 5 });
  // @ts-expect-error there is no such policy
  await streamer.createConsumer('a', { mode: 'resumable', autoCommit: 'sometimes' });
  // @ts-expect-error a number is no interval when it is a text
  await streamer.createConsumer('a', { mode: 'real-time', shardDiscoveryInterval: '5s' });
  // @ts-expect-error streams are named by strings
  await streamer.createConsumer(7, { mode: 'real-time' });
  // @ts-expect-error there is no such place
  await (await streamer.createConsumer('a', { mode: 'real-time' })).rewind('start');
}

/** Options that are not known before the program runs give a consumer with what all have. */
export async function unknownOptions(options: ConsumerOptions): Promise<BasicConsumer> {
  const consumer = await streamer.createConsumer('a', options);
  // @ts-expect-error not every consumer has it
  consumer.ack?.(message);
  return consumer;
}

export async function assignable(): Promise<[BasicConsumer, AcknowledgingConsumer, StreamConsumer]> {
  const disabled: AcknowledgingConsumer = await streamer.createConsumer('a', {
    mode: 'resumable',
    autoCommit: 'disabled',
  });
  return [disabled, disabled, disabled];
}
