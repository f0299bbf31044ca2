import { beforeEach, expect, it } from '@jest/globals';
import { Registry } from 'prom-client';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, RedisStreamsModule, ServerRedisStreams, getRedisStreamsToken } from '../../lib/index.js';
import type { RedisStreamsModuleOptions } from '../../lib/index.js';
import { METRICS } from '../../lib/prometheus/metrics.js';
import { prometheus } from '../../lib/prometheus.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { parseExposition } from '../support/exposition.js';
import type { Exposition } from '../support/exposition.js';
import { FaultBench } from '../support/fault-bench.js';
import { metricsApp } from '../support/metrics-app.js';
import { LogLines } from '../support/nest.js';
import type { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

const bench = new FaultBench();
const GROUP = 'orders-service';
let server: RedisServer;
let registry: Registry;

beforeEach(async () => {
  server = await bench.server({ args: ['--appendonly', 'no'] });
  registry = new Registry();
});

/** The module of an application whose metrics are asked for at each scrape. */
const moduleWith = (options: RedisStreamsModuleOptions = {}): ReturnType<typeof RedisStreamsModule.forRoot> =>
  RedisStreamsModule.forRoot({
    connection: server.url,
    logger: new LogLines(),
    blockTimeout: 500,
    autoCommitInterval: 10,
    group: GROUP,
    ...options,
    // As long as a busy machine may take: a number that comes too late would be absent.
    telemetry: options.telemetry ?? prometheus({ registry, pollInterval: 0, timeout: 10_000 }),
  });

const valueIn = (text: Exposition, name: string, labels?: Record<string, string>): number | undefined =>
  text.value(`redis_streams_${name}`, labels);

it('/metrics shows what happened to the messages of an application: handled, retried, dead, answered', async () => {
  let failures = 0;
  const handle = (order: string): void => {
    if (order === 'bad' || (order === 'late' && failures++ === 0)) throw new Error(order);
  };
  const { app, scrape } = await metricsApp(bench, registry, {
    imports: [moduleWith({ retry: { attempts: 2, delay: 10, jitter: 0 } })],
    controllers: [
      onEvent('orders', handle),
      onRequest('sum', (terms: number[]) => terms.reduce((sum, term) => sum + term, 0)),
      onRequest('broken', () => {
        throw new Error('broken');
      }),
    ],
  });
  const client = app.get<ClientRedisStreams>(getRedisStreamsToken());
  for (const order of ['one', 'two', 'late', 'bad']) await firstValueFrom(client.emit('orders', order));
  expect(await firstValueFrom(client.send('sum', [1, 2]))).toBe(3);
  await expect(firstValueFrom(client.send('broken', 1))).rejects.toBeDefined();

  let text = await scrape();
  await until('all is settled and seen', async () => {
    text = await scrape();
    const settled = ['orders', 'sum', 'broken'].every((stream) => valueIn(text, 'group_pending', { stream }) === 0);
    return settled && valueIn(text, 'dead_letters_total', { stream: 'orders' }) === 1;
  });
  // In one scrape the counters are older than the answers of Redis.
  text = await scrape();
  const handled = text
    .samples('redis_streams_messages_handled_total')
    .filter(({ value }) => value > 0)
    .map(
      ({ labels, value }) =>
        `${labels['stream']} ${labels['group']} ${labels['pattern']} ${labels['outcome']} ${value}`,
    );
  expect(handled.sort()).toEqual([
    `broken ${GROUP} broken failed 1`,
    `orders ${GROUP} orders ack 3`,
    `orders ${GROUP} orders dead-letter 1`,
    `orders ${GROUP} orders retry 2`,
    `sum ${GROUP} sum ack 1`,
  ]);
  expect(valueIn(text, 'handler_duration_seconds_count', { stream: 'orders' })).toBe(6);
  expect(valueIn(text, 'messages_sent_total', { stream: 'orders', outcome: 'sent' })).toBe(4);
  expect(valueIn(text, 'messages_sent_total', { stream: '(replies)', outcome: 'sent' })).toBe(2);
  expect(valueIn(text, 'request_duration_seconds_count', { stream: 'sum', outcome: 'answered' })).toBe(1);
  expect(valueIn(text, 'request_duration_seconds_count', { stream: 'broken', outcome: 'failed' })).toBe(1);
  expect(valueIn(text, 'stream_entries', { stream: 'orders' })).toBe(4);
  expect(valueIn(text, 'group_lag', { stream: 'orders', group: GROUP })).toBe(0);
  expect(valueIn(text, 'group_lag_seconds', { stream: 'orders', group: GROUP })).toBe(0);
  expect(valueIn(text, 'connection_up', { server: `127.0.0.1:${server.port}` })).toBe(1);
  expect(valueIn(text, 'loop_healthy', { group: GROUP })).toBe(1);

  const streams = text.families.flatMap(({ samples }) => samples.flatMap(({ labels }) => labels['stream'] ?? []));
  expect([...new Set(streams)].sort()).toEqual(['(replies)', 'broken', 'orders', 'sum']);
  const shown = text.families.map(({ name, type, samples }) => {
    return { name, type, labels: Object.keys(samples[0]?.labels ?? {}).filter((label) => label !== 'le') };
  });
  expect(shown).toEqual(
    METRICS.map(({ name, type, labels }) => ({
      name: `redis_streams_${name}`,
      type,
      // No failure in the background.
      labels: name === 'errors_total' ? [] : labels,
    })),
  );
});

it('/metrics shows a group that lags behind a handler that hangs, in entries and in seconds, and that it recovers', async () => {
  const gate = withResolvers<void>();
  const { app, scrape } = await metricsApp(bench, registry, {
    imports: [moduleWith({ concurrency: 1, prefetch: 1, batchSize: 1 })],
    controllers: [onEvent('orders', () => gate.promise)],
  });
  const client = app.get<ClientRedisStreams>(getRedisStreamsToken());
  for (let order = 0; order < 20; order += 1) await firstValueFrom(client.emit('orders', order));

  let text = await scrape();
  await until('the handler is old, and entries wait', async () => {
    text = await scrape();
    return (valueIn(text, 'group_lag_seconds') ?? 0) > 0 && (valueIn(text, 'all_handlers_busy_seconds') ?? 0) > 0.02;
  });
  expect(valueIn(text, 'in_flight', { group: GROUP })).toBe(1);
  expect(valueIn(text, 'oldest_handler_seconds', { group: GROUP })).toBeGreaterThan(0);
  expect(valueIn(text, 'group_lag', { stream: 'orders' })).toBeGreaterThanOrEqual(17);
  const [pending = 0, lag = 0] = [valueIn(text, 'group_pending'), valueIn(text, 'group_lag')];
  expect(pending + lag).toBe(20);
  expect(valueIn(text, 'group_oldest_pending_seconds')).toBeGreaterThanOrEqual(0);

  gate.resolve();
  await until('nothing waits', async () => {
    text = await scrape();
    return valueIn(text, 'group_lag') === 0 && valueIn(text, 'group_pending') === 0;
  });
  text = await scrape();
  expect(valueIn(text, 'group_lag_seconds')).toBe(0);
  expect(valueIn(text, 'oldest_handler_seconds')).toBe(0);
  expect(valueIn(text, 'messages_handled_total', { outcome: 'ack' })).toBe(20);
});

it('in an outage /metrics answers, the connection is down, what Redis knows is absent, and what was counted stays', async () => {
  const { app, scrape } = await metricsApp(bench, registry, {
    imports: [moduleWith({ telemetry: prometheus({ registry, pollInterval: 0, timeout: 300 }) })],
    controllers: [onEvent('orders', () => undefined)],
  });
  const client = app.get<ClientRedisStreams>(getRedisStreamsToken());
  await firstValueFrom(client.emit('orders', 1));
  let text = await scrape();
  const handled = (): number | undefined => valueIn(text, 'messages_handled_total', { outcome: 'ack' });
  await until('it is handled', async () => {
    text = await scrape();
    return handled() === 1 && valueIn(text, 'group_lag') === 0;
  });

  await server.kill();
  await until('the outage is seen', async () => {
    text = await scrape();
    return valueIn(text, 'connection_up') === 0;
  });
  for (const name of [
    'group_lag',
    'group_lag_seconds',
    'group_pending',
    'group_oldest_pending_seconds',
    'stream_entries',
  ])
    expect([name, text.samples(`redis_streams_${name}`)]).toEqual([name, []]);
  expect(handled()).toBe(1);

  await server.restart();
  await until(
    'it is over',
    async () => {
      text = await scrape();
      return valueIn(text, 'connection_up') === 1 && valueIn(text, 'group_lag') !== undefined;
    },
    20_000,
  );
  expect(valueIn(text, 'reconnects_total')).toBeGreaterThanOrEqual(1);
  expect(handled()).toBe(1);
});

it('a server that closes takes its gauges along, and counts on when it listens again', async () => {
  const strategy = new ServerRedisStreams({
    connection: server.url,
    logger: new LogLines(),
    blockTimeout: 500,
    autoCommitInterval: 10,
    group: GROUP,
    telemetry: prometheus({ registry, pollInterval: 0 }),
  });
  bench.endLater(() => strategy.close());
  strategy.addHandler('orders', async () => undefined, true);
  const streamer = await bench.streamer(server.url);
  const producer = await streamer.createProducer('orders');
  const scrape = async (): Promise<Exposition> => parseExposition(await registry.metrics());
  for (const round of [1, 2]) {
    await producer.send('1');
    await new Promise((resolve) => void strategy.listen(resolve));
    await until('the message is counted', async () => {
      const text = await scrape();
      return (
        valueIn(text, 'messages_handled_total', { outcome: 'ack' }) === round && valueIn(text, 'group_pending') === 0
      );
    });
    await strategy.close();
    const closed = await scrape();
    const gauges = closed.families.filter(({ type, samples }) => type === 'gauge' && samples.length > 0);
    expect(gauges).toEqual([]);
    expect(valueIn(closed, 'messages_handled_total', { outcome: 'ack' })).toBe(round);
  }
});
