import { Controller } from '@nestjs/common';
import { Ctx, EventPattern } from '@nestjs/microservices';
import { describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { RedisStreamsContext, StreamEventPattern, StreamMessagePattern } from '../../lib/index.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';

const nest = useNest();

describe('a server that has started', () => {
  it('logs in one line what it reads, how, and from which server', async () => {
    const stream = uniqueName('start');

    @Controller()
    class Many {
      @StreamEventPattern(stream, { ack: 'manual' })
      first(): void {}

      @StreamEventPattern(stream)
      second(): void {}

      @StreamMessagePattern(`${stream}.sum`)
      sum(): void {}

      @StreamEventPattern(`${stream}.clicks`, { batch: { size: 100 } })
      clicks(): void {}

      @StreamEventPattern(`${stream}.bookings`, { ordered: true, concurrency: 3 })
      bookings(): void {}

      @StreamEventPattern(`${stream}.feed`, { mode: 'real-time' })
      feed(): void {}
    }
    const { log } = await nest.serve(Many, { consumer: 'worker-1', concurrency: 5 });
    const { host } = new URL(nest.url);
    expect(log.messages).toHaveLength(1);
    const [line] = log.messages as [string];
    expect(line).toMatch(
      new RegExp(`^Reading 5 streams for the group '${GROUP}' as 'worker-1' from (Redis|Valkey) [0-9.]+ at ${host}, `),
    );
    expect(line).toContain('over its own wire');
    expect(line).toContain(`'${stream}' (2 event handlers, load-balanced, concurrency 5, manual ack)`);
    expect(line).toContain(`'${stream}.sum' (1 request handler, load-balanced, concurrency 5)`);
    expect(line).toContain(`'${stream}.clicks' (1 event handler, load-balanced, concurrency 1, batches of 100)`);
    expect(line).toContain(`'${stream}.bookings' (1 event handler, load-balanced, concurrency 3, ordered)`);
    expect(line).toContain(`'${stream}.feed' (1 event handler, real-time, concurrency 5)`);
    expect(log.warnings).toEqual([]);
  });

  it('names what the server does not offer, without a secret', async () => {
    await nest.redis.call('ACL', 'SETUSER', 'start-line', 'reset', 'on', '>pw', '~*', '+@all', '-info');
    const connection = nest.url.replace('redis://', 'redis://start-line:pw@');
    const { log } = await nest.serve(
      onEvent(uniqueName('start'), () => undefined),
      { connection },
    );
    expect(log.messages).toEqual([expect.stringMatching(/from Redis at [^ @]+, over its own wire, without INFO/)]);
    expect(log.messages[0]).not.toContain('pw');
  });

  it('names no more than twenty streams', async () => {
    const stream = uniqueName('start');
    const patterns = Array.from({ length: 25 }, (_, index) => `${stream}.${index}`);

    @Controller()
    class Many {
      @EventPattern<unknown>(patterns)
      handle(@Ctx() _context: RedisStreamsContext): void {}
    }
    const { log } = await nest.serve(Many);
    expect(log.messages[0]).toMatch(/^Reading 25 streams .*\.19' \(.*\), and 5 more$/);
  });

  it('warns of a request handler that another one replaces', async () => {
    const stream = uniqueName('price');
    const handlers = [onRequest(stream, () => 1), onRequest(stream, () => 2), onEvent(stream, () => undefined)];
    const { log } = await nest.serve(handlers);
    expect(log.warnings).toEqual([
      `'${stream}' has several request handlers; only the one that was registered last answers`,
    ]);
    expect(await firstValueFrom(nest.client().send(stream, 0))).toBe(2);
  });

  it('warns when no handler is bound to it', async () => {
    @Controller()
    class None {}
    const { log } = await nest.serve(None);
    expect(log.warnings).toEqual([expect.stringMatching(/^No handler is bound to this server/)]);
    expect(log.messages).toEqual([]);
  });
});
