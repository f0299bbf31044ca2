import { describe, expect, it } from '@jest/globals';

import type { RedisStreamer } from '../../lib/engine/streamer.js';
import { PacketCodec, JSON_DESERIALIZER, JSON_SERIALIZER } from '../../lib/nest/packet-codec.js';
import { ReplyInbox } from '../../lib/nest/requests/reply-inbox.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { safeLogger } from '../../lib/shared/logger.js';
import { until } from '../support/until.js';

describe('reply inbox', () => {
  it('ends the consumer whose read failed, and opens another one for the next request', async () => {
    const consumers: Array<{ fail: (error: Error) => void; isEnded: boolean }> = [];
    const createReplyConsumer = async () => {
      const read = withResolvers<never>();
      const consumer = {
        fail: read.reject,
        isEnded: false,
        next: () => read.promise,
        end: async () => {
          consumer.isEnded = true;
        },
      };
      consumers.push(consumer);
      return consumer;
    };
    const silent = (): void => undefined;
    const inbox = new ReplyInbox({
      streamer: { createReplyConsumer, appending: { trimMaxLen: async () => 0 } } as unknown as RedisStreamer,
      codec: new PacketCodec(
        () => JSON_SERIALIZER,
        () => JSON_DESERIALIZER,
      ),
      replyPrefix: 'reply:',
      requestTimeout: 1_000,
      logger: safeLogger({ error: silent, warn: silent, log: silent }),
    });
    await inbox.open();
    consumers[0]?.fail(new Error('WRONGTYPE'));
    await until('the failed consumer is ended', () => consumers[0]?.isEnded === true);

    await inbox.open();
    expect(consumers.map(({ isEnded }) => isEnded)).toEqual([true, false]);
    await inbox.close();
    expect(consumers.map(({ isEnded }) => isEnded)).toEqual([true, true]);
  });
});
