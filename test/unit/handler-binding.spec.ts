import { describe, expect, it } from '@jest/globals';
import type { MessageHandler } from '@nestjs/microservices';

import type { HandlerExtras, ServerRedisStreamsOptions } from '../../lib/index.js';
import { resolveServerOptions } from '../../lib/nest/redis-streams.options.js';
import { groupHandlers } from '../../lib/nest/server/handler-binding.js';
import type { HandlerBinding, HandlerGroup } from '../../lib/nest/server/handler-binding.js';

function group(handlers: Record<string, HandlerExtras>, options: ServerRedisStreamsOptions = {}): HandlerGroup[] {
  const bound = Object.entries(handlers).map(([pattern, extras]): [string, MessageHandler[]] => {
    return [pattern, [Object.assign(async () => undefined, { isEventHandler: true, extras }) as MessageHandler]];
  });
  return groupHandlers(new Map(bound), resolveServerOptions({ group: 'g', ...options }), 'load-balanced');
}

describe('handlers of one pattern', () => {
  const handlerOf = (extras: HandlerExtras, isEventHandler = true): MessageHandler => {
    return Object.assign(async () => undefined, { isEventHandler, extras }) as MessageHandler;
  };
  const bind = (handlers: MessageHandler[]): HandlerBinding => {
    const server = resolveServerOptions({ group: 'g', retry: { attempts: 7 } });
    const [group] = groupHandlers(new Map([['orders', handlers]]), server, 'load-balanced');
    return group?.bindings.get('orders') as HandlerBinding;
  };
  const groupAll = (...extras: HandlerExtras[]): HandlerBinding => bind(extras.map((own) => handlerOf(own)));

  it.each<[string, HandlerExtras[]]>([
    ['the first', [{ retry: { attempts: 2 }, deadLetter: false }, {}]],
    ['the second', [{}, { retry: { attempts: 2 }, deadLetter: false }]],
    ['one for retries, the other for dead letters', [{ deadLetter: false }, { retry: { attempts: 2 } }]],
    ['both, to the same', [{ retry: { attempts: 2 } }, { retry: { attempts: 2, delay: 1000 }, deadLetter: false }]],
  ])('share what %s of them sets', (_, extras) => {
    expect(groupAll(...extras).failurePolicy).toMatchObject({ retry: { attempts: 2 }, deadLetter: false });
  });

  it('have the settings of the server where none of them sets any', () => {
    expect(groupAll({}, {}).failurePolicy.retry.attempts).toBe(7);
  });

  it.each<[string, string, HandlerExtras[]]>([
    ['retry', 'attempts', [{ retry: { attempts: 2 } }, { retry: false }]],
    ['retry', 'unless', [{ retry: { unless: () => true } }, { retry: { unless: () => true } }]],
    ['deadLetter', 'maxLen', [{ deadLetter: { maxLen: 3 } }, {}, { deadLetter: { maxLen: 5 } }]],
    ['deadLetter', 'stream', [{ deadLetter: { stream: 'failed' } }, { deadLetter: false }]],
  ])('are refused where two of them set a different %s, %s for instance', (option, property, extras) => {
    expect(() => groupAll(...extras)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_OPTION',
        option: `@EventPattern('orders').${option}`,
        message: expect.stringMatching(`must be the same for all handlers .* differ in .*${property}`),
      }),
    );
  });

  it('may differ without a group, where nothing is retried', () => {
    const extras = [{ retry: { attempts: 2 } }, { retry: false }, {}] as const;
    expect(() => groupAll(...extras.map((own) => ({ ...own, mode: 'real-time' as const })))).not.toThrow();
  });

  it('have no settings of a handler of requests, which are not retried', () => {
    const answering = handlerOf({ retry: false, deadLetter: false }, false);
    const { retry, deadLetter } = bind([answering, handlerOf({ retry: { attempts: 2 } })]).failurePolicy;
    expect({ attempts: retry.attempts, deadLetter }).toEqual({ attempts: 2, deadLetter: expect.objectContaining({}) });
  });

  it.each([
    [true, 'EventPattern'],
    [false, 'MessagePattern'],
  ])('are refused by the name of the decorator (of events: %s)', (isEventHandler, decorator) => {
    const wrong = handlerOf({ concurrency: 0 }, isEventHandler);
    expect(() => bind([wrong])).toThrow(
      expect.objectContaining({ option: `@${decorator}('orders').concurrency`, code: 'ERR_INVALID_OPTION' }),
    );
  });

  it.each<[keyof HandlerExtras, HandlerExtras, HandlerExtras]>([
    ['batch', {}, { batch: { size: 2 } }],
    ['rateLimit', { rateLimit: { max: 1, per: 10 } }, { rateLimit: { max: 2, per: 10 } }],
    ['mode', {}, { mode: 'resumable' }],
  ])(
    'are refused by the decorator of the handler that does not suit the other one: %s',
    (option, ofEvents, ofRequests) => {
      expect(() => bind([handlerOf(ofEvents), handlerOf(ofRequests, false)])).toThrow(
        expect.objectContaining({ option: `@MessagePattern('orders').${option}` }),
      );
    },
  );

  it('have those of a handler of requests where it handles the events, too', () => {
    const answering = handlerOf({ retry: false, deadLetter: false }, false);
    expect(bind([answering]).failurePolicy).toMatchObject({ retry: { attempts: 1 }, deadLetter: false });
  });
});

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
