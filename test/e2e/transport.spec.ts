import { expect, it } from '@jest/globals';
import { Transport } from '@nestjs/microservices';
import { firstValueFrom, take, toArray } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import { REDIS_STREAMS_TRANSPORT, RedisStreamer, ServerRedisStreams } from '../../lib/index.js';
import type { RedisStreamsStatus } from '../../lib/index.js';
import { moduleOf, onEvent } from '../support/controllers.js';
import { HAS_DISPATCH_HOOK, setDispatchHook } from '../support/dispatch-hook.js';
import { freePort } from '../support/free-port.js';
import { GROUP, LogLines, createApp, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

const nest = useNest();

it('status emits connection, loss and end, and on() may be called before the first of them', async () => {
  const redis = await RedisServer.start();
  nest.closeLater({ close: () => redis.stop() });
  const strategy = new ServerRedisStreams({ connection: redis.url, group: GROUP, logger: new LogLines() });
  const statuses: RedisStreamsStatus[] = [];
  strategy.on('status', (status) => statuses.push(status));
  const observed = firstValueFrom(strategy.status.pipe(take(4), toArray()));
  strategy.addHandler('x', async () => undefined, true);
  await strategy.listen(() => undefined);
  expect(await firstValueFrom(strategy.status)).toBe('connected');
  await redis.restart();
  await until('it is connected again', () => statuses.at(-1) === 'connected' && statuses.length === 3, 15_000);
  await strategy.close();

  expect(await observed).toEqual(['connected', 'reconnecting', 'connected', 'disconnected']);
  expect(statuses).toEqual(['connected', 'reconnecting', 'connected', 'disconnected']);
});

it('unwrap returns the engine, and transportId is the exported symbol', async () => {
  const { app, server } = await nest.serve(onEvent(uniqueName('x'), () => undefined));
  const client = nest.client();

  expect(app.unwrap()).toBe(server.unwrap());
  expect(server.unwrap()).toBeInstanceOf(RedisStreamer);
  expect(client.unwrap()).toBeInstanceOf(RedisStreamer);
  expect(server.transportId).toBe(REDIS_STREAMS_TRANSPORT);
  expect(REDIS_STREAMS_TRANSPORT).toBe(Symbol.for('nestjs-redis-streams:transport'));
});

it('in a hybrid application each transport gets its own handlers', async () => {
  const [ours, theirs, both] = [uniqueName('ours'), uniqueName('theirs'), uniqueName('both')];
  const strategy = new ServerRedisStreams({ connection: nest.url, group: GROUP, blockTimeout: 1_000 });
  const app = await createApp(
    nest,
    moduleOf({
      controllers: [
        onEvent(ours, () => undefined, {}, REDIS_STREAMS_TRANSPORT),
        onEvent(theirs, () => undefined, {}, Transport.TCP),
        onEvent(both, () => undefined),
      ],
    }),
  );
  app.connectMicroservice({ transport: Transport.TCP, options: { port: await freePort() } });
  app.connectMicroservice({ strategy });
  await app.startAllMicroservices();

  expect([...strategy.getHandlers().keys()].sort()).toEqual([both, ours].sort());
  expect((await nest.redis.keys('*')).sort()).toEqual([both, ours].sort());
});

if (HAS_DISPATCH_HOOK) {
  it('metadata that a dispatch hook adds becomes headers in the context, and processing hooks run around the handler', async () => {
    const pattern = uniqueName('hooks');
    const steps: string[] = [];
    const gate = withResolvers<void>();
    const { server } = await nest.serve(
      onEvent(pattern, async (_data, context) => {
        steps.push(`handler ${context.getHeader('traceparent')}`);
        await gate.promise;
      }),
    );
    const client = nest.client();
    setDispatchHook(client, (packet) => (packet.metadata = { traceparent: '00-abc' }));
    server.setOnProcessingStartHook((transportId, _context, done) => {
      steps.push(`start ${transportId === REDIS_STREAMS_TRANSPORT}`);
      void done();
    });
    server.setOnProcessingEndHook(() => void steps.push('end'));
    await firstValueFrom(client.emit(pattern, { n: 1 }));

    await until('the handler runs', () => steps.length === 2);
    expect((await nest.entries(pattern))[0]?.fields).toEqual({ msg: '{"n":1}', 'h:traceparent': '00-abc' });
    gate.resolve();
    await nest.untilSettled(pattern);
    expect(steps).toEqual(['start true', 'handler 00-abc', 'end']);
  });
}
