import { describe, expect, it } from '@jest/globals';
import { Controller } from '@nestjs/common';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { firstValueFrom } from 'rxjs';

import { RedisStreamsContext, RedisStreamsRecordBuilder } from '../../../lib/index.js';
import { HAS_DISPATCH_HOOK, setDispatchHook } from '../../support/dispatch-hook.js';
import { useNest } from '../../support/nest.js';
import { until } from '../../support/until.js';

const nest = useNest();
const ofEvents: unknown[] = [];

@Controller()
class MetadataController {
  @MessagePattern('echo-metadata')
  echo(@Payload() data: unknown, @Ctx() context: RedisStreamsContext): unknown {
    return { data, metadata: context.getMetadata() ?? null };
  }

  @EventPattern<string>('record-metadata')
  record(@Payload() data: unknown, @Ctx() context: RedisStreamsContext): void {
    ofEvents.push({ data, metadata: context.getMetadata() ?? null });
  }
}

describe('the metadata of a packet', () => {
  it('reaches the handler of a request and of an event, and the payload is untouched', async () => {
    ofEvents.length = 0;
    await nest.serve(MetadataController);
    const client = nest.client();
    const withMetadata = (data: unknown, id: string): unknown => {
      const metadata = { 'x-request-id': id };
      if (!HAS_DISPATCH_HOOK) return new RedisStreamsRecordBuilder(data).setHeaders(metadata).build();
      setDispatchHook(client, (packet) => (packet.metadata = metadata));
      return data;
    };

    const reply = await firstValueFrom(client.send('echo-metadata', withMetadata({ orderId: 7 }, 'trace-1')));
    expect(reply).toEqual({ data: { orderId: 7 }, metadata: { 'x-request-id': 'trace-1' } });
    await firstValueFrom(client.emit('record-metadata', withMetadata({ orderId: 8 }, 'trace-2')));
    await until('the event is handled', () => ofEvents.length === 1);
    expect(ofEvents).toEqual([{ data: { orderId: 8 }, metadata: { 'x-request-id': 'trace-2' } }]);
  });

  it('is undefined when the sender has set none: the headers of a request and the key of a record are no metadata', async () => {
    ofEvents.length = 0;
    await nest.serve(MetadataController);
    const client = nest.client();
    const keyed = new RedisStreamsRecordBuilder(1).setKey('customer-7');

    expect(await firstValueFrom(client.send('echo-metadata', 'plain'))).toEqual({ data: 'plain', metadata: null });
    await firstValueFrom(client.emit('record-metadata', keyed.build()));
    await until('the event is handled', () => ofEvents.length === 1);
    expect(ofEvents).toEqual([{ data: 1, metadata: null }]);

    // In an event this is a header like any other.
    await firstValueFrom(client.emit('record-metadata', keyed.setHeader('correlation-id', 'c-1').build()));
    await until('this one is handled', () => ofEvents.length === 2);
    expect(ofEvents[1]).toEqual({ data: 1, metadata: { 'correlation-id': 'c-1' } });
  });

  if (HAS_DISPATCH_HOOK) {
    it('is set by a hook that is called once for each packet, with its pattern and data', async () => {
      await nest.serve(MetadataController);
      const client = nest.client();
      const seen: unknown[] = [];
      setDispatchHook(client, ({ pattern, data }) => void seen.push({ pattern, data }));

      for (const data of [1, 2]) await firstValueFrom(client.send('echo-metadata', data));
      await firstValueFrom(client.emit('record-metadata', 3));
      await firstValueFrom(client.emitBatch('record-metadata', [4, 5]));
      expect(seen).toEqual([
        { pattern: 'echo-metadata', data: 1 },
        { pattern: 'echo-metadata', data: 2 },
        { pattern: 'record-metadata', data: 3 },
        { pattern: 'record-metadata', data: 4 },
        { pattern: 'record-metadata', data: 5 },
      ]);
    });
  }
});
