import { describe, expect, it } from '@jest/globals';
import type { MessageHandler } from '@nestjs/microservices';

import type { HandlerExtras, ServerRedisStreamsOptions } from '../../lib/index.js';
import { resolveServerOptions } from '../../lib/nest/redis-streams.options.js';
import { groupHandlers } from '../../lib/nest/server/handler-binding.js';
import type { HandlerGroup } from '../../lib/nest/server/handler-binding.js';

function group(handlers: Record<string, HandlerExtras>, options: ServerRedisStreamsOptions = {}): HandlerGroup[] {
  const bound = Object.entries(handlers).map(([pattern, extras]): [string, MessageHandler[]] => {
    return [pattern, [Object.assign(async () => undefined, { isEventHandler: true, extras }) as MessageHandler]];
  });
  return groupHandlers(new Map(bound), resolveServerOptions({ group: 'g', ...options }), 'load-balanced');
}

describe('a stream of dead letters', () => {
  it.each<[string, Record<string, HandlerExtras>, ServerRedisStreamsOptions]>([
    ['the stream itself', { orders: { deadLetter: { stream: 'orders' } } }, {}],
    ['the stream itself, by the option of the server', { orders: {} }, { deadLetter: { stream: 'orders' } }],
    ['the stream of another handler', { orders: { deadLetter: { stream: 'bills' } }, bills: {} }, {}],
    ['the stream of a handler of another mode', { a: { deadLetter: { stream: 'b' } }, b: { mode: 'resumable' } }, {}],
    ['a shard of the stream', { orders: {} }, { shards: true, deadLetter: { stream: 'orders:3' } }],
  ])('that the same group reads is refused, by option, rule and name: %s', (_, handlers, options) => {
    const stream = options.deadLetter || Object.values(handlers)[0]?.deadLetter || {};
    expect(() => group(handlers, options)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_OPTION',
        option: 'deadLetter.stream',
        value: stream.stream,
        message: expect.stringContaining('must not be a stream that the same group reads'),
      }),
    );
  });

  it.each<[string, Record<string, HandlerExtras>, ServerRedisStreamsOptions]>([
    ['the default, which has a handler of its own', { orders: {}, 'orders.dead': {} }, {}],
    ['shared by all handlers and read by none', { orders: {}, bills: {} }, { deadLetter: { stream: 'failed' } }],
    ['read without a group', { orders: { deadLetter: { stream: 'b' } }, b: { mode: 'real-time' } }, {}],
    ['named like a shard of a stream without shards', { orders: { deadLetter: { stream: 'orders:3' } } }, {}],
    ['off', { orders: { deadLetter: false } }, {}],
  ])('is accepted when it is %s', (_, handlers, options) => {
    expect(group(handlers, options).flatMap(({ bindings }) => [...bindings.keys()])).toEqual(Object.keys(handlers));
  });
});
