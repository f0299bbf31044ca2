import { expect, it } from '@jest/globals';

import type { StreamProducer } from '../../lib/engine/producing/stream-producer.js';
import type { RedisStreamer } from '../../lib/engine/streamer.js';
import { JSON_DESERIALIZER, JSON_SERIALIZER, PacketCodec } from '../../lib/nest/packet-codec.js';
import { RequestSender } from '../../lib/nest/requests/request-sender.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { safeLogger } from '../../lib/shared/logger.js';
import { until } from '../support/until.js';

it('a client remembers which patterns are served, and not more than 10,000 of them', async () => {
  const asked: string[] = [];
  const sent: string[] = [];
  const never = withResolvers<never>().promise;
  const silent = (): void => undefined;
  const sender = new RequestSender({
    streamer: {
      reach: async () => undefined,
      createReplyConsumer: async () => ({ next: () => never, end: async () => undefined, lookSoon: () => undefined }),
      createManager: async () => ({ hasGroups: async (key: string) => asked.push(key) > 0 }),
      appending: { trimMaxLen: async () => 0 },
      answers: { cancel: async () => undefined },
      clock: { isCurrent: () => true, offset: () => 0, ask: async () => undefined },
    } as unknown as RedisStreamer,
    producer: {
      keysOf: (pattern: string) => [pattern],
      post: (pattern: string) => void sent.push(pattern),
    } as unknown as StreamProducer,
    codec: new PacketCodec(
      () => JSON_SERIALIZER,
      () => JSON_DESERIALIZER,
    ),
    replyPrefix: 'reply:',
    requestTimeout: 60_000,
    logger: safeLogger({ error: silent, warn: silent, log: silent }),
  });
  const send = async (pattern: string): Promise<void> => {
    const before = sent.length;
    sender.send(pattern, { pattern, data: 1 }, silent);
    await until('it is sent', () => sent.length > before);
  };
  await send('first');
  await send('first');
  expect(asked).toEqual(['first']);

  for (let n = 0; n < 10_000; n += 1) sender.send(`pattern ${n}`, { pattern: `pattern ${n}`, data: 1 }, silent);
  await until('all are sent', () => sent.length === 10_002);
  await send('first');
  expect(asked.filter((pattern) => pattern === 'first')).toHaveLength(2);
  await sender.close();
});
