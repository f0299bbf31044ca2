import { describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { InvalidOptionError, RedisStreamsModule, ServerRedisStreams, getRedisStreamsToken } from '../../lib/index.js';
import type { ClientRedisStreams, DeadLetterEvent, ServerRedisStreamsOptions } from '../../lib/index.js';
import { TestServerRedisStreams } from '../../lib/testing.js';
import { onBatch, onEvent, onRequest } from '../support/controllers.js';
import { createApp, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { addRaw } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();

const LIMIT = 1_000;
/** JSON of that many bytes. */
const json = (bytes: number): string => JSON.stringify('x'.repeat(bytes - 2));

/** Serves, and collects dead letters. */
async function serve(parts: Parameters<typeof nest.serve>[0], options: Partial<ServerRedisStreamsOptions> = {}) {
  const dead: DeadLetterEvent[] = [];
  const onDeadLetter = (event: DeadLetterEvent): void => void dead.push(event);
  return { dead, ...(await nest.serve(parts, { maxPayload: LIMIT, onDeadLetter, ...options })) };
}

describe('maxPayload of a server', () => {
  it('an event over it becomes a dead letter at once, undecoded; its reason and the log name size and limit', async () => {
    const pattern = uniqueName('large');
    const decoded: number[] = [];
    const deserialize = (payload: Buffer): unknown => {
      decoded.push(payload.length);
      return JSON.parse(payload.toString()) as unknown;
    };
    const seen: unknown[] = [];
    const { dead, log } = await serve(
      onEvent(pattern, (data) => seen.push(data)),
      { deserializer: { deserialize } },
    );
    const large = await addRaw(nest.redis, pattern, 'msg', json(LIMIT + 1));
    await addRaw(nest.redis, pattern, 'msg', json(LIMIT));

    await until('both are settled', () => seen.length + dead.length === 2);
    await nest.untilSettled(pattern);
    expect(decoded).toEqual([LIMIT]);
    expect(dead).toMatchObject([{ message: { id: large, deliveryCount: 1 }, error: { code: 'ERR_PAYLOAD_DECODE' } }]);
    expect(dead[0]?.reason).toMatch(/1001 bytes.* maxPayload is 1000/);
    expect(log.errors).toHaveLength(1);
    expect(log.errors[0]).toMatch(/1001 bytes.* maxPayload is 1000$/);
    const [stored] = await nest.entries(`${pattern}.dead`);
    expect(stored?.fields['msg']).toHaveLength(LIMIT + 1);
    expect(stored?.fields).not.toHaveProperty('h:dead-letter-error-stack');
  });

  it.each([
    ['of an entry without a payload, all fields', (size: number) => ['text', 'x'.repeat(size - 4)], LIMIT],
    ['headers over 16 KiB', (size: number) => ['msg', '1', 'h:x', 'x'.repeat(size)], LIMIT + 16 * 1024],
  ])('counts %s', async (_name, fieldsOf, most) => {
    const pattern = uniqueName('counted');
    let handled = 0;
    const { dead } = await serve(onEvent(pattern, () => (handled += 1)));
    await addRaw(nest.redis, pattern, ...fieldsOf(most - 100));
    await addRaw(nest.redis, pattern, ...fieldsOf(most + 100));

    await until('both are settled', () => handled + dead.length === 2);
    expect([handled, dead.length]).toEqual([1, 1]);
  });

  it('does not count the headers of a request or of tracing', async () => {
    const pattern = uniqueName('small');
    await serve(
      onRequest(pattern, (data) => data),
      { maxPayload: 10 },
    );

    expect(await firstValueFrom(nest.client().send(pattern, 12_345_678))).toBe(12_345_678);
  });

  it('a request over it is answered with an error, and is not executed', async () => {
    const pattern = uniqueName('asked');
    let handled = 0;
    await serve(onRequest(pattern, () => (handled += 1)));

    await expect(firstValueFrom(nest.client().send(pattern, 'x'.repeat(LIMIT)))).rejects.toMatchObject({
      message: expect.stringMatching(/1002 bytes.* maxPayload is 1000/),
    });
    await nest.untilSettled(pattern);
    expect(handled).toBe(0);
    expect(await nest.redis.exists(`${pattern}.dead`)).toBe(0);
  });

  it('one message of a batch that is over it does not keep the others from their handler', async () => {
    const pattern = uniqueName('batched');
    const seen: unknown[] = [];
    const { dead } = await serve(
      onBatch(pattern, (payloads) => seen.push(...payloads), { batch: { size: 3, timeout: 200 } }),
    );
    for (const payload of ['1', json(LIMIT + 1), '3']) await addRaw(nest.redis, pattern, 'msg', payload);

    await until('all are settled', () => seen.length + dead.length === 3);
    await nest.untilSettled(pattern);
    expect(seen).toEqual([1, 3]);
  });

  it('does not limit answers', async () => {
    const pattern = uniqueName('answer');
    await serve(onRequest(pattern, () => 'x'.repeat(2 * LIMIT)));

    expect(await firstValueFrom(nest.client().send(pattern, 1))).toHaveLength(2 * LIMIT);
  });

  it('in the options of a module is the limit of its client, too', async () => {
    const pattern = uniqueName('module');
    const options = { connection: nest.url, group: 'g', maxPayload: LIMIT };
    const app = await createApp(nest, RedisStreamsModule.forRoot(options) as never);
    const client = app.get<ClientRedisStreams>(getRedisStreamsToken());

    await expect(firstValueFrom(client.emit(pattern, 'x'.repeat(LIMIT)))).rejects.toMatchObject({
      code: 'ERR_PAYLOAD_TOO_LARGE',
    });
  });

  it.each([0, 1.5, '1mb', null])('is refused when it is %j', (maxPayload) => {
    expect(() => new ServerRedisStreams({ group: 'g', maxPayload: maxPayload as number })).toThrow(InvalidOptionError);
    expect(() => new TestServerRedisStreams({ maxPayload: maxPayload as number })).toThrow(/maxPayload/);
  });
});
