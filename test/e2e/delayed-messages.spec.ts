import { expect, it } from '@jest/globals';
import { firstValueFrom, lastValueFrom } from 'rxjs';

import { ClientRedisStreams, RedisStreamsRecordBuilder } from '../../lib/index.js';
import type { Receipt, RedisStreamsContext } from '../../lib/index.js';
import { TestClientRedisStreams } from '../../lib/testing.js';
import { onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();
const HOUR = 3_600_000;

it('an event with a delay is handled when it is due, once', async () => {
  const pattern = uniqueName('orders');
  const seen: Array<{ order: number; at: number }> = [];
  const handle = ({ order }: { order: number }, context: RedisStreamsContext): void => {
    seen.push({ order, at: Number(context.getTimestamp()) });
  };
  await nest.serve(onEvent(pattern, handle));
  const client = nest.client();
  const delayed = new RedisStreamsRecordBuilder({ order: 1 }).setDelay(300).build();
  const at = new RedisStreamsRecordBuilder({ order: 2 }).setDeliverAt(new Date(Date.now() + 400)).build();
  const receipt = await firstValueFrom(client.emit(pattern, delayed));
  const [second] = await firstValueFrom(client.emitBatch(pattern, [at, { order: 3 }]));

  await until('all are handled', () => seen.length >= 3);
  seen.sort((left, right) => left.order - right.order);
  expect(seen.map(({ order }) => order)).toEqual([1, 2, 3]);
  expect(seen[0]?.at).toBeGreaterThanOrEqual(Number(receipt.deliverAt));
  expect(seen[1]?.at).toBeGreaterThanOrEqual(Number(second?.deliverAt));
});

it('an event whose client was closed is moved by the server', async () => {
  const pattern = uniqueName('orders');
  const seen: unknown[] = [];
  await nest.serve(onEvent(pattern, (data: unknown) => void seen.push(data)));
  const client = new ClientRedisStreams({ connection: nest.url });
  await firstValueFrom(client.emit(pattern, new RedisStreamsRecordBuilder({ order: 1 }).setDelay(200).build()));
  await client.close();
  await until('it is handled', () => seen.length === 1);
});

it('an event that is the first of its stream, and whose client was closed, is found by a wildcard', async () => {
  const root = uniqueName('orders');
  const seen: unknown[] = [];
  const handler = onEvent(`${root}.*`, (data: unknown) => void seen.push(data));
  await nest.serve(handler, { wildcards: { interval: 100 } });
  const client = new ClientRedisStreams({ connection: nest.url });
  await firstValueFrom(client.emit(`${root}.eu`, new RedisStreamsRecordBuilder({ order: 1 }).setDelay(200).build()));
  await client.close();
  await until('it is handled', () => seen.length === 1);
});

it('an event that waits can be listed and cancelled through the engine of the client', async () => {
  const pattern = uniqueName('orders');
  const client = nest.client();
  const record = new RedisStreamsRecordBuilder({ order: 1 }).setDelay(HOUR).setHeader('kind', 'reminder').build();
  const receipt: Receipt = await firstValueFrom(client.emit(pattern, record));
  const manager = await client.unwrap().createManager();
  const [waiting] = await manager.delayed(pattern);
  expect(waiting).toMatchObject({ id: receipt.id, deliverAt: receipt.deliverAt, headers: { kind: 'reminder' } });
  expect(String(waiting?.payload)).toBe('{"order":1}');
  expect(await manager.cancelDelayed(pattern, receipt.id)).toBe(true);
  expect(await manager.delayed(pattern)).toEqual([]);
});

it.each([
  ['delay', (builder: RedisStreamsRecordBuilder) => builder.setDelay(5)],
  ['deliverAt', (builder: RedisStreamsRecordBuilder) => builder.setDeliverAt(new Date())],
])('a request with %s is refused before it is sent', async (option, set) => {
  const client = new ClientRedisStreams({ connection: 'redis://127.0.0.1:1' });
  try {
    const record = set(new RedisStreamsRecordBuilder<unknown>([1, 2])).build();
    await expect(lastValueFrom(client.send('sum', record))).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: expect.stringContaining(`${option} is for events only: a request waits for its answer`),
    });
  } finally {
    await client.close();
  }
});

it('the record builder refuses a wrong delay or time when it is set, and a timestamp when it is sent', async () => {
  const builder = new RedisStreamsRecordBuilder({ order: 1 });
  expect(() => builder.setDelay(-1)).toThrow('delay must be a whole number');
  expect(() => builder.setDeliverAt(new Date(NaN))).toThrow('deliverAt must be a valid Date');
  const both = builder.setTimestamp(new Date()).setDelay(1).build();
  await expect(firstValueFrom(nest.client().emit(uniqueName('orders'), both))).rejects.toThrow(
    'delay cannot be combined with timestamp',
  );
});

it('the test client records delay and time of what was sent, and returns the receipt of a delayed message', async () => {
  const client = new TestClientRedisStreams();
  const at = new Date(Date.now() + HOUR);
  const receipt = await firstValueFrom(
    client.emit('orders', new RedisStreamsRecordBuilder(1).setDeliverAt(at).build()),
  );
  client.emit('orders', new RedisStreamsRecordBuilder(2).setDelay(500).build());
  client.emit('orders', 3);
  expect(client.sent.map(({ delay, deliverAt }) => [delay, deliverAt])).toEqual([
    [undefined, at],
    [500, undefined],
    [undefined, undefined],
  ]);
  expect(receipt).toMatchObject({ deliverAt: at, timestamp: at, sequence: 0n });
});
