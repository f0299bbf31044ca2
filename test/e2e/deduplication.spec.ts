import { expect, it } from '@jest/globals';
import { firstValueFrom, lastValueFrom } from 'rxjs';

import { ClientRedisStreams, RedisStreamsRecordBuilder } from '../../lib/index.js';
import { TestClientRedisStreams } from '../../lib/testing.js';
import { onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();
const HOUR = 3_600_000;

function recordOf(data: unknown, id: string) {
  return new RedisStreamsRecordBuilder(data).setDeduplicationId(id, { within: HOUR }).setHeader('kind', 'test').build();
}

it('an event that is emitted again with its deduplication id is handled once, and has the first receipt', async () => {
  const pattern = uniqueName('orders');
  const seen: unknown[] = [];
  await nest.serve(onEvent(pattern, (data: unknown) => void seen.push(data)));
  const client = nest.client();
  const first = await firstValueFrom(client.emit(pattern, recordOf({ order: 1 }, 'outbox-1')));
  const again = await firstValueFrom(client.emit(pattern, recordOf({ order: 1 }, 'outbox-1')));
  const batch = [recordOf({ order: 1 }, 'outbox-1'), recordOf({ order: 2 }, 'outbox-2'), { order: 3 }];
  const receipts = await firstValueFrom(client.emitBatch(pattern, batch));

  await until('all are handled', () => seen.length >= 3);
  expect(seen).toEqual([{ order: 1 }, { order: 2 }, { order: 3 }]);
  expect([again.id, receipts[0]?.id]).toEqual([first.id, first.id]);
});

it('a request with a deduplication id is refused before it is sent, because a repetition would get no answer', async () => {
  const client = new ClientRedisStreams({ connection: 'redis://127.0.0.1:1' });
  try {
    await expect(lastValueFrom(client.send('sum', recordOf([1, 2], 'a')))).rejects.toMatchObject({
      code: 'ERR_INVALID_OPTION',
      message: 'deduplication is for events only: a request that is not stored gets no answer; got "a"',
    });
  } finally {
    await client.close();
  }
});

it('the record builder refuses a wrong id or time when it is set', () => {
  const builder = new RedisStreamsRecordBuilder({ order: 1 });
  expect(() => builder.setDeduplicationId('', { within: 1 })).toThrow('deduplication.id must be a non-empty string');
  expect(() => builder.setDeduplicationId('a', { within: 0 })).toThrow('deduplication.within must be a whole number');
  expect(() => builder.setDeduplicationId('a', undefined as never)).toThrow('deduplication.within');
});

it('the test client records the deduplication id of what was sent', () => {
  const client = new TestClientRedisStreams();
  client.emit('orders', recordOf({ order: 1 }, 'outbox-1'));
  client.emit('orders', { order: 2 });
  expect(client.sent.map(({ deduplicationId }) => deduplicationId)).toEqual(['outbox-1', undefined]);
});
