import { describe, expect, it, jest } from '@jest/globals';
import type { ReadPacket, WritePacket } from '@nestjs/microservices';
import { firstValueFrom, of } from 'rxjs';

import { ClientRedisStreams, RedisStreamer } from '../../lib/index.js';
import type { ClientRedisStreamsOptions, Receipt } from '../../lib/index.js';
import { onRequest } from '../support/controllers.js';
import { HAS_DISPATCH_HOOK } from '../support/dispatch-hook.js';
import { LogLines, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** The options of a client of these tests. */
function clientOptions(logger = new LogLines()): ClientRedisStreamsOptions {
  return { connection: nest.url, blockTimeout: 1_000, logger };
}

/** Closes the client with the test. */
function closing<C extends ClientRedisStreams>(client: C): C {
  nest.closeLater(client);
  return client;
}

async function payloadsOf(stream: string): Promise<unknown[]> {
  return (await nest.entries(stream)).map(({ fields }) => JSON.parse(fields['msg'] ?? 'null') as unknown);
}

describe('a subclass of the client', () => {
  it('dispatchEvent: every event of emit and emitBatch passes through the override, which may change its packet', async () => {
    class StampingClient extends ClientRedisStreams {
      protected override dispatchEvent<T = Receipt>(packet: ReadPacket): Promise<T> {
        return super.dispatchEvent<T>({ ...packet, data: { stamped: packet.data as unknown }, metadata: { by: 'me' } });
      }
    }
    const stream = uniqueName('stamped');
    const client = closing(new StampingClient(clientOptions()));
    const receipt = await firstValueFrom(client.emit(stream, 1));
    await firstValueFrom(client.emitBatch(stream, [2, 3]));

    expect(receipt).toMatchObject({ streamKey: stream });
    expect(await payloadsOf(stream)).toEqual([{ stamped: 1 }, { stamped: 2 }, { stamped: 3 }]);
    expect((await nest.entries(stream)).map(({ fields }) => fields['h:by'])).toEqual(['me', 'me', 'me']);
  });

  it('dispatchEvent: an override sends at once, without a subscriber, and a late subscriber gets the result', async () => {
    class AwaitingClient extends ClientRedisStreams {
      protected override async dispatchEvent<T = Receipt>(packet: ReadPacket): Promise<T> {
        await Promise.resolve();
        return await super.dispatchEvent<T>(packet);
      }
    }
    const stream = uniqueName('unsubscribed');
    const client = closing(new AwaitingClient(clientOptions()));
    const results = [1, 2, 3].map((n) => client.emit(stream, n));
    await until('all are stored', async () => (await nest.redis.xlen(stream)) === 3);

    expect(await payloadsOf(stream)).toEqual([1, 2, 3]);
    expect(await firstValueFrom(results[2] as (typeof results)[0])).toMatchObject({ streamKey: stream });
  });

  it.each<[string, () => Promise<never>]>([
    ['rejects', async () => { throw new Error('not today'); }], // prettier-ignore
    ['throws', () => { throw new Error('not today'); }], // prettier-ignore
  ])(
    'dispatchEvent: the failure of an override that %s reaches a subscriber, or the log and the error event',
    async (_how, fail) => {
      class FailingClient extends ClientRedisStreams {
        protected override dispatchEvent(): Promise<never> {
          return fail();
        }
      }
      const log = new LogLines();
      const client = closing(new FailingClient(clientOptions(log)));
      const reported: string[] = [];
      client.on('error', ({ message }) => reported.push(message));

      await expect(firstValueFrom(client.emit('x', 1))).rejects.toThrow('not today');
      await expect(firstValueFrom(client.emitBatch('x', [1]))).rejects.toMatchObject({ code: 'ERR_BATCH_SEND' });
      expect(reported).toEqual([]);
      client.emit('x', 1);
      await until('the failure is reported', () => reported.length === 1);
      expect(reported).toEqual(['not today']);
      expect(log.errors).toEqual([expect.stringMatching(/'x'.*: not today$/)]);
    },
  );

  it('publish: every request passes through the override, and its replies through the callback', async () => {
    const seen: unknown[] = [];
    class ObservingClient extends ClientRedisStreams {
      protected override publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
        seen.push(packet.data);
        return super.publish({ ...packet, data: Number(packet.data) + 1 }, (reply) => {
          seen.push(reply.response);
          callback(reply);
        });
      }
    }
    const pattern = uniqueName('published');
    await nest.serve(onRequest(pattern, (n: number) => n * 10));
    const client = closing(new ObservingClient(clientOptions()));

    expect(await firstValueFrom(client.send(pattern, 1))).toBe(20);
    expect(await firstValueFrom(client.send(pattern, 2))).toBe(30);
    expect(seen).toEqual([1, 20, 2, 30]);
  });

  it('connect: an override is awaited before each event and each request', async () => {
    const steps: string[] = [];
    class ConnectingClient extends ClientRedisStreams {
      override async connect(): Promise<void> {
        steps.push('connect');
        await super.connect();
        steps.push('connected');
      }

      protected override dispatchEvent<T = Receipt>(packet: ReadPacket): Promise<T> {
        steps.push('dispatch');
        return super.dispatchEvent<T>(packet);
      }

      protected override publish(packet: ReadPacket, callback: (packet: WritePacket) => void): () => void {
        steps.push('publish');
        return super.publish(packet, callback);
      }
    }
    const pattern = uniqueName('connecting');
    await nest.serve(onRequest(pattern, () => 'answer'));
    const client = closing(new ConnectingClient(clientOptions()));

    await firstValueFrom(client.emit(pattern, 1));
    expect(steps.splice(0)).toEqual(['connect', 'connected', 'dispatch']);
    expect(await firstValueFrom(client.send(pattern, 1))).toBe('answer');
    expect(steps).toEqual(['connect', 'connected', 'publish']);
  });

  it('connect: its failure is the failure of the event and of the request', async () => {
    class OfflineClient extends ClientRedisStreams {
      override async connect(): Promise<void> {
        throw new Error('no credentials yet');
      }
    }
    const client = closing(new OfflineClient(clientOptions()));

    await expect(firstValueFrom(client.emit('x', 1))).rejects.toThrow('no credentials yet');
    await expect(firstValueFrom(client.send('x', 1))).rejects.toThrow('no credentials yet');
  });

  it('an override in a field of the class counts, although it is set after the constructor of the base class', async () => {
    const packets: ReadPacket[] = [];
    class FieldClient extends ClientRedisStreams {
      connects = 0;
      override connect = async (): Promise<void> => void (this.connects += 1);
      protected override dispatchEvent = async (packet: ReadPacket): Promise<never> => packets.push(packet) as never;
    }
    const client = closing(new FieldClient(clientOptions()));
    await firstValueFrom(client.emit('x', 1));

    expect(client.connects).toBe(1);
    expect(packets).toEqual([{ pattern: 'x', data: 1 }]);
  });

  it('createStreamer: the client sends through the streamer of the override, and disconnects it', async () => {
    const created: RedisStreamer[] = [];
    class OwnStreamerClient extends ClientRedisStreams {
      protected override createStreamer(options: ClientRedisStreamsOptions): RedisStreamer {
        const streamer = new RedisStreamer(options.connection, { ...options, keyPrefix: 'own:' });
        created.push(streamer);
        return streamer;
      }
    }
    const stream = uniqueName('streamer');
    const client = new OwnStreamerClient(clientOptions());
    await firstValueFrom(client.emit(stream, 1));
    await client.close();

    expect(client.unwrap()).toBe(created[0]);
    expect(await nest.redis.xlen(`own:${stream}`)).toBe(1);
    expect(created.map(({ status }) => status)).toEqual(['disconnected']);
  });

  if (HAS_DISPATCH_HOOK) {
    it('createPacket: an override makes the packets of events and requests', async () => {
      class TracingClient extends ClientRedisStreams {
        protected override createPacket<TInput>(pattern: unknown, data: TInput): ReadPacket {
          return { ...super.createPacket(pattern, data), metadata: { trace: 'abc' } };
        }
      }
      const pattern = uniqueName('traced');
      await nest.serve(onRequest(pattern, (_data, context) => context.getHeader('trace') ?? null));
      const client = closing(new TracingClient(clientOptions()));

      expect(await firstValueFrom(client.send(pattern, 1))).toBe('abc');
      await firstValueFrom(client.emit(pattern, 1));
      expect((await nest.entries(pattern)).map(({ fields }) => fields['h:trace'])).toEqual(['abc', 'abc']);
    });
  }

  it('serializer and deserializer: fields of the subclass encode what is sent and decode what comes back', async () => {
    class WrappingClient extends ClientRedisStreams {
      protected override serializer = { serialize: (data: unknown) => JSON.stringify({ wrapped: data }) };
      protected override deserializer = {
        deserialize: (payload: Buffer) => ({ response: `unwrapped ${payload.toString()}` }) as never,
      };
    }
    const pattern = uniqueName('wrapped');
    await nest.serve(onRequest(pattern, (data: { wrapped: number }) => data.wrapped));
    const client = closing(new WrappingClient(clientOptions()));

    expect(await firstValueFrom(client.send(pattern, 7))).toEqual({ response: 'unwrapped 7' });
    await firstValueFrom(client.emit(pattern, 8));
    expect(await payloadsOf(pattern)).toEqual([{ wrapped: 7 }, { wrapped: 8 }]);
  });

  it('initializeSerializer: an override may wrap the default serializer', async () => {
    class CountingClient extends ClientRedisStreams {
      declare serialized: number;

      protected override initializeSerializer(options: ClientRedisStreamsOptions): void {
        super.initializeSerializer(options);
        const inner = this.serializer;
        this.serialized = 0;
        this.serializer = {
          serialize: (data, context) => {
            this.serialized += 1;
            return inner.serialize(data, context) as unknown;
          },
        };
      }
    }
    const stream = uniqueName('counted');
    const client = closing(new CountingClient(clientOptions()));
    await firstValueFrom(client.emit(stream, { n: 1 }));

    expect(client.serialized).toBe(1);
    expect(await payloadsOf(stream)).toEqual([{ n: 1 }]);
  });
});

describe('a client that is spied on', () => {
  it('emit and send may be wrapped, and mocked', async () => {
    const pattern = uniqueName('spied');
    await nest.serve(onRequest(pattern, () => 'answer'));
    const client = nest.client();
    const emit = jest.spyOn(client, 'emit');
    const send = jest.spyOn(client, 'send');

    await firstValueFrom(client.emit(pattern, 1));
    expect(await firstValueFrom(client.send(pattern, 2))).toBe('answer');
    emit.mockReturnValueOnce(of('mocked'));
    expect(await firstValueFrom(client.emit(pattern, 3))).toBe('mocked');
    expect(await nest.redis.xlen(pattern)).toBe(2);
    expect(emit).toHaveBeenCalledWith(pattern, 1);
    expect(send).toHaveBeenCalledWith(pattern, 2);
  });

  it('connect, dispatchEvent and publish may be wrapped after the client was made, also on the prototype', async () => {
    const pattern = uniqueName('wrapped');
    await nest.serve(onRequest(pattern, () => 'answer'));
    const client = nest.client();
    const seams = client as unknown as Record<'connect' | 'dispatchEvent' | 'publish', () => unknown>;
    const prototype = ClientRedisStreams.prototype as unknown as typeof seams;
    const onInstance = (['connect', 'dispatchEvent', 'publish'] as const).map((name) => jest.spyOn(seams, name));
    await firstValueFrom(client.emit(pattern, 1));
    await firstValueFrom(client.send(pattern, 1));
    expect(onInstance.map((spy) => spy.mock.calls.length)).toEqual([2, 1, 1]);
    for (const spy of onInstance) spy.mockRestore();

    const onPrototype = (['connect', 'dispatchEvent', 'publish'] as const).map((name) => jest.spyOn(prototype, name));
    try {
      await firstValueFrom(client.emit(pattern, 1));
      await firstValueFrom(client.send(pattern, 1));
      expect(onPrototype.map((spy) => spy.mock.calls.length)).toEqual([2, 1, 1]);
    } finally {
      for (const spy of onPrototype) spy.mockRestore();
    }
  });
});
