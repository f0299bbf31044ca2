import {
  RedisStreamsContext,
  RedisStreamsRecordBuilder,
  ServerRedisStreams,
  StreamEventPattern,
} from '../../lib/index.js';

export const wildcards = [
  new ServerRedisStreams({ group: 'g', wildcards: true, streams: { 'orders.*': 'prod.orders.*' } }),
  new ServerRedisStreams({ group: 'g', wildcards: { interval: 1_000 } }),
  // @ts-expect-error not a word
  new ServerRedisStreams({ group: 'g', wildcards: 'on' }),
  // @ts-expect-error a misspelt setting
  new ServerRedisStreams({ group: 'g', wildcards: { intervall: 1_000 } }),
  // @ts-expect-error the key of a stream is a string
  new ServerRedisStreams({ group: 'g', streams: { orders: 1 } }),
];

export class Tenants {
  @StreamEventPattern('tenants.*.orders', { rateLimit: { max: 10, per: 1_000, scope: 'group' } })
  async note(order: { id: number }, context: RedisStreamsContext): Promise<void> {
    const stream: string = context.getStream();
    const signal: AbortSignal = context.getSignal();
    await Promise.resolve([order.id.toFixed(), stream, signal.aborted]);
  }

  // @ts-expect-error a limit is of a time
  @StreamEventPattern('orders', { rateLimit: { max: 10 } })
  limited(): void {}

  // @ts-expect-error of an instance or a group
  @StreamEventPattern('orders', { rateLimit: { max: 10, per: 1_000, scope: 'cluster' } })
  scoped(): void {}
}

export async function control(server: ServerRedisStreams): Promise<void> {
  await server.pause();
  await server.pause('tenants.*.orders');
  await server.resume({ cmd: 'sum' });
  await server.addStream('tenants.*.orders', 'others');
  // @ts-expect-error which stream?
  await server.addStream('orders');
}

export function records(): unknown[] {
  const builder = new RedisStreamsRecordBuilder({ item: 'tea' });
  return [
    builder.setDelay(1_000).build(),
    builder.setDeliverAt(new Date()).setExpiresAt(new Date()).build(),
    builder.setDeduplicationId('order-1', { within: 60_000 }).build(),
    builder.setTimeout(1_000).build(),
    // @ts-expect-error milliseconds
    builder.setDelay('1s'),
    // @ts-expect-error a date
    builder.setDeliverAt(1_000),
    // @ts-expect-error for how long?
    builder.setDeduplicationId('order-1'),
  ];
}
