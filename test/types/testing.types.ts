import type { INestMicroservice } from '@nestjs/common';
import type { TestingModule } from '@nestjs/testing';

import { RedisStreamsRecordBuilder, streamCatalog } from '../../lib/index.js';
import type { ClientRedisStreams, DelayedMessage, Receipt, StreamManager } from '../../lib/index.js';
import { TestClientRedisStreams, TestServerRedisStreams } from '../../lib/testing.js';
import type { DeliveryOutcome, SentMessage, TimedOutcome } from '../../lib/testing.js';
import type { Observable } from 'rxjs';

declare const module: TestingModule;

const server = new TestServerRedisStreams({
  streams: { orders: 'prod.orders' },
  retry: { attempts: 3 },
  onDeadLetter: ({ deadLetterStream }) => console.log(deadLetterStream),
  advanceTimers: (ms: number) => Promise.resolve(ms),
});
const client = new TestClientRedisStreams(server);
const events = streamCatalog<{ orders: { item: string } }>();

export const app: INestMicroservice = module.createNestMicroservice({ strategy: server });
export const real: ClientRedisStreams = client;
export const receipt: Observable<Receipt> = events.client(client).emit('orders', { item: 'tea' });
export const sent: readonly SentMessage[] = client.sent;

export async function advance(): Promise<Date> {
  const outcomes: TimedOutcome[] = await server.advanceTime(1_000);
  const delivered: DeliveryOutcome | undefined = outcomes[0];
  const stream: string | undefined = outcomes[0]?.stream;
  const manager: StreamManager = await client.unwrap().createManager();
  const waiting: DelayedMessage[] = await manager.delayed('orders');
  await server.pause('orders');
  await server.resume();
  await server.addStream('orders', stream ?? String(delivered?.delay ?? waiting.length));
  await server.removeStream({ cmd: 'orders' }, 'tenant');
  await server.deliver('orders', new RedisStreamsRecordBuilder({ item: 'tea' }).setKey('a').build(), { id: '1-0' });
  return server.now;
}

export function refused(): void {
  // @ts-expect-error a time in milliseconds
  void server.advanceTime(new Date());
  // @ts-expect-error the time must be given
  void server.advanceTime();
  // @ts-expect-error a misspelt option
  void new TestServerRedisStreams({ retries: 3 });
  // @ts-expect-error an option of the real server that has no effect on a handler alone
  void new TestServerRedisStreams({ connection: 'redis://localhost' });
  // @ts-expect-error a client is given a server
  void new TestClientRedisStreams({});
  // @ts-expect-error fake timers are advanced by a function
  void new TestServerRedisStreams({ advanceTimers: true });
  // @ts-expect-error another payload than that of the catalog
  events.client(client).emit('orders', { item: 5 });
}
