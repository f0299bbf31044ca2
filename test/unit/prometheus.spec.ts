import { describe, expect, it } from '@jest/globals';
import { AggregatorRegistry, Counter, Registry, register } from 'prom-client';
import type { OpenMetricsContentType } from 'prom-client';

import { ConnectionError, RedisStreamsError, RequestTimeoutError } from '../../lib/errors.js';
import type { LoopHealth, LoopStats, StreamHealth, StreamerHealth, StreamerStats } from '../../lib/engine/health.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import type {
  ProcessDetails,
  ProcessOutcome,
  SentMessageDetails,
  TelemetrySource,
} from '../../lib/engine/telemetry/telemetry.js';
import { METRICS } from '../../lib/prometheus/metrics.js';
import type { MetricsRegistry } from '../../lib/prometheus/options.js';
import { PrometheusExporter } from '../../lib/prometheus/prometheus-exporter.js';
import { prometheus } from '../../lib/prometheus.js';
import type { PrometheusOptions } from '../../lib/prometheus.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { parseExposition } from '../support/exposition.js';
import type { Exposition } from '../support/exposition.js';

const PREFIX = 'redis_streams_';

const LOOP: LoopStats = {
  state: 'reading',
  isHealthy: true,
  lastReadAge: 1,
  restarts: 0,
  isStalled: false,
  allBusyFor: undefined,
  refusal: undefined,
  mode: 'load-balanced',
  group: 'orders-service',
  consumer: 'c',
  isForReplies: false,
  nameConflict: undefined,
  reconnects: 0,
  buffered: 0,
  inFlight: 0,
  oldestHandler: undefined,
  streamKeys: ['orders'],
};

const STREAM: StreamHealth = {
  streamKey: 'orders',
  shardId: 0,
  entries: undefined,
  lag: undefined,
  lagSeconds: undefined,
  pending: undefined,
  oldestPendingIdle: undefined,
  pausedBy: undefined,
  failure: undefined,
  refusal: undefined,
};

const KNOWN: Partial<StreamHealth> = { entries: 10, lag: 3, lagSeconds: 1.5, pending: 2, oldestPendingIdle: 4_000 };

/** A streamer with one loop. */
class FakeSource implements TelemetrySource {
  server: TelemetrySource['server'] = { host: 'redis', port: 6379 };
  status: StreamerStats['status'] = 'connected';
  reconnects = 0;
  queued = 0;
  loops: Array<Partial<LoopStats> & { streams?: ReadonlyArray<Partial<StreamHealth>> }> = [];
  asked = 0;
  /** What the next answers wait for. */
  delay: Promise<unknown> = Promise.resolve();

  stats(): StreamerStats {
    const { status, reconnects, queued } = this;
    return {
      status,
      isClosed: false,
      reconnects,
      queued,
      loops: this.loops.map(({ streams: _, ...loop }) => ({ ...LOOP, ...loop })),
    };
  }

  async health(): Promise<StreamerHealth> {
    this.asked += 1;
    await this.delay;
    const sums = {
      entries: undefined,
      lag: undefined,
      lagSeconds: undefined,
      pending: undefined,
      oldestPendingIdle: undefined,
    };
    const loops: LoopHealth[] = this.loops.map(({ streams = [], streamKeys: _, ...loop }) => ({
      ...LOOP,
      ...loop,
      ...sums,
      streams: streams.map((stream) => ({ ...STREAM, ...stream })),
    }));
    return { isHealthy: true, isClosed: false, status: this.status, reconnects: this.reconnects, loops };
  }
}

function exporter(options: PrometheusOptions = {}): {
  metrics: PrometheusExporter;
  scrape: () => Promise<Exposition>;
  registry: MetricsRegistry;
} {
  const registry = options.registry ?? new Registry();
  const metrics = prometheus({ pollInterval: 0, registry, ...options }) as PrometheusExporter;
  return { metrics, registry, scrape: async () => parseExposition(await registry.metrics()) };
}

function sending(source: TelemetrySource, details: Partial<SentMessageDetails> = {}): SentMessageDetails {
  return {
    kind: 'message',
    streamKey: 'orders',
    shardId: undefined,
    size: 1,
    isDelayed: false,
    headers: {},
    source,
    ...details,
  };
}

function processing(source: TelemetrySource, details: Partial<ProcessDetails> = {}): ProcessDetails {
  return {
    kind: 'event',
    pattern: 'orders',
    streamKey: 'orders',
    shardId: undefined,
    group: 'orders-service',
    consumer: 'c',
    isBatch: false,
    source,
    ...details,
  };
}

function message(streamKey = 'orders'): StreamMessage {
  const entry = { id: '1-0', fields: [], deliveryCount: 1 } as unknown as Parameters<typeof StreamMessage.create>[1];
  return StreamMessage.create({ streamKey, shardId: 0, key: streamKey }, entry, DEFAULTS.streamer);
}

function outcome(given: Partial<ProcessOutcome>): ProcessOutcome {
  const none = { settlement: undefined, delay: undefined, reason: undefined, error: undefined, isExpired: false };
  return { message: message(), ...none, ...given };
}

const source = new FakeSource();

describe('prometheus(): what is counted', () => {
  it('sends are counted by stream and outcome, with their times; all streams of answers have one name', async () => {
    const { metrics, scrape } = exporter();
    metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
    metrics.startSend(sending(source)).end({ error: new ConnectionError('lost') }, 5);
    for (const streamKey of ['reply-1', 'reply-2'])
      metrics.startSend(sending(source, { kind: 'reply', streamKey })).end({ id: '1-0' }, 5);

    const text = await scrape();
    expect(text.value(`${PREFIX}messages_sent_total`, { stream: 'orders', outcome: 'sent' })).toBe(1);
    expect(text.value(`${PREFIX}messages_sent_total`, { stream: 'orders', outcome: 'failed' })).toBe(1);
    expect(text.value(`${PREFIX}messages_sent_total`, { stream: '(replies)', outcome: 'sent' })).toBe(2);
    expect(text.value(`${PREFIX}send_duration_seconds_count`, { stream: 'orders' })).toBe(2);
    expect(text.samples(`${PREFIX}messages_sent_total`)).toHaveLength(4);
  });

  it.each<[outcome: string, given: Partial<ProcessOutcome>]>([
    ['ack', { settlement: 'ack' }],
    ['retry', { settlement: 'retry', delay: 1, error: new Error('no') }],
    ['dead-letter', { settlement: 'dead-letter', reason: 'no', error: new Error('no') }],
    ['failed', { settlement: 'ack', error: new Error('answered with it') }],
    ['failed', { error: new Error('in real-time mode') }],
    ['pending', { settlement: 'pending' }],
    ['expired', { settlement: 'ack', isExpired: true }],
    ['undecided', {}],
  ])('a handled message has the outcome %s: %j', async (name, given) => {
    const { metrics, scrape } = exporter();
    metrics.startProcess([message()], processing(source)).end([outcome(given)], 5);
    const text = await scrape();
    const counted = text.samples(`${PREFIX}messages_handled_total`).filter(({ value }) => value !== 0);
    const labels = { stream: 'orders', group: 'orders-service', pattern: 'orders' };
    expect(counted).toEqual([
      { name: `${PREFIX}messages_handled_total`, labels: { ...labels, outcome: name }, value: 1 },
    ]);
    const calls = given.isExpired ? undefined : 1;
    expect(text.value(`${PREFIX}handler_duration_seconds_count`, labels)).toBe(calls);
  });

  it('every outcome begins at 0 with the first message, so that the first failure is an increase', async () => {
    const { metrics, scrape } = exporter();
    metrics.startProcess([message()], processing(source)).end([outcome({ settlement: 'ack' })], 5);
    const zeros = (await scrape()).samples(`${PREFIX}messages_handled_total`).filter(({ value }) => value === 0);
    expect(zeros.map(({ labels }) => String(labels['outcome'])).sort()).toEqual([
      'dead-letter',
      'expired',
      'failed',
      'pending',
      'retry',
      'undecided',
    ]);
  });

  it('a request that is answered without an error is acknowledged when its answer is stored, and counts as ack', async () => {
    const { metrics, scrape } = exporter();
    metrics.startProcess([message()], processing(source, { kind: 'request' })).end([outcome({})], 5);
    expect((await scrape()).value(`${PREFIX}messages_handled_total`, { outcome: 'ack' })).toBe(1);
  });

  it('a batch is one call, and each of its messages is counted for its own stream', async () => {
    const { metrics, scrape } = exporter();
    const details = processing(source, { isBatch: true, pattern: 'orders.*', streamKey: 'orders.eu' });
    const batch = ['orders.eu', 'orders.us', 'orders.us'].map((streamKey) => message(streamKey));
    metrics.startProcess(batch, details).end(
      batch.map((each) => outcome({ message: each, settlement: 'ack' })),
      5,
    );
    const text = await scrape();
    const counts = ['orders.eu', 'orders.us'].map((stream) =>
      text.value(`${PREFIX}messages_handled_total`, { stream, pattern: 'orders.*', outcome: 'ack' }),
    );
    expect(counts).toEqual([1, 2]);
    expect(text.value(`${PREFIX}handler_duration_seconds_count`)).toBe(1);
  });

  it('a real-time consumer has an empty group', async () => {
    const { metrics, scrape } = exporter();
    metrics
      .startProcess([message()], processing(source, { group: undefined }))
      .end([outcome({ settlement: 'ack' })], 5);
    expect((await scrape()).value(`${PREFIX}messages_handled_total`, { group: '', outcome: 'ack' })).toBe(1);
  });

  it('requests have their times by outcome', async () => {
    const { metrics, scrape } = exporter();
    const request = () => metrics.startRequest({ pattern: 'sum', streamKey: 'sum', source });
    request().end({}, 5);
    request().end({ error: new RequestTimeoutError('sum', 1) }, 5);
    request().end({ error: 'of the handler' }, 5);
    request().end({ isCancelled: true }, 5);
    const text = await scrape();
    for (const name of ['answered', 'timeout', 'failed', 'cancelled'])
      expect(text.value(`${PREFIX}request_duration_seconds_count`, { stream: 'sum', outcome: name })).toBe(1);
  });

  it('background failures are counted by code, dead letters by stream and group', async () => {
    const { metrics, scrape } = exporter();
    metrics.failed(new ConnectionError('lost'));
    metrics.failed(new ConnectionError('lost'));
    const dead = { pattern: 'orders', group: 'g', deadLetterStream: 'orders.dead', reason: 'no' };
    metrics.deadLettered({ message: message(), ...dead });
    const text = await scrape();
    expect(text.value(`${PREFIX}errors_total`, { code: 'ERR_CONNECTION' })).toBe(2);
    expect(text.value(`${PREFIX}dead_letters_total`, { stream: 'orders', group: 'g' })).toBe(1);
  });

  it('a duration is counted in every bucket that is not shorter', async () => {
    const { metrics, scrape } = exporter({ buckets: [0.002, 0.005, 0.01] });
    metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
    const buckets = (await scrape()).samples(`${PREFIX}send_duration_seconds_bucket`);
    expect(buckets.map(({ labels, value }) => [labels['le'], value])).toEqual([
      ['0.002', 0],
      ['0.005', 1],
      ['0.01', 1],
      ['+Inf', 1],
    ]);
  });

  it('the thousandth stream does not make a thousandth series: it is counted as (other), which is logged once', async () => {
    const warnings: string[] = [];
    const logger = { error: () => undefined, log: () => undefined, warn: (line: string) => void warnings.push(line) };
    const { metrics, scrape } = exporter({ maxLabelValues: 3, logger });
    for (let index = 0; index < 1_000; index += 1) {
      const streamKey = `orders.${index}`;
      metrics.startSend(sending(source, { streamKey })).end({ id: '1-0' }, 5);
      metrics
        .startProcess([message(streamKey)], processing(source, { streamKey }))
        .end([outcome({ message: message(streamKey), settlement: 'ack' })], 5);
    }
    const text = await scrape();
    expect(text.value(`${PREFIX}messages_sent_total`, { stream: '(other)', outcome: 'sent' })).toBe(997);
    expect(text.value(`${PREFIX}messages_handled_total`, { stream: '(other)', outcome: 'ack' })).toBe(997);
    expect(text.value(`${PREFIX}messages_sent_total`, { stream: 'orders.0', outcome: 'sent' })).toBe(1);
    expect(text.samples(`${PREFIX}messages_sent_total`, { outcome: 'sent' })).toHaveLength(4);
    expect(warnings).toEqual([expect.stringMatching(/maxLabelValues = 3 .*'stream'.*'\(other\)'/)]);
  });

  it('names of streams with quotes, backslashes and line ends are shown as they are', async () => {
    const { metrics, scrape } = exporter();
    const streamKey = 'a"b\\c\nd';
    metrics.startSend(sending(source, { streamKey })).end({ id: '1-0' }, 5);
    expect((await scrape()).value(`${PREFIX}messages_sent_total`, { stream: streamKey, outcome: 'sent' })).toBe(1);
  });
});

describe('prometheus(): what streamers tell', () => {
  it('the gauges of one streamer', async () => {
    const { metrics, scrape } = exporter();
    const streamer = new FakeSource();
    streamer.queued = 7;
    streamer.loops = [{ buffered: 4, inFlight: 2, oldestHandler: 2_500, allBusyFor: 500, streams: [KNOWN] }];
    metrics.attach(streamer);
    const text = await scrape();
    const group = { group: 'orders-service' };
    const both = { stream: 'orders', ...group };
    const gauges = text.families.filter(({ type }) => type === 'gauge').flatMap(({ samples }) => samples);
    expect(gauges.map(({ name, labels, value }) => [name.replace(PREFIX, ''), labels, value])).toEqual([
      ['connection_up', { server: 'redis:6379' }, 1],
      ['queued', {}, 7],
      ['buffered', group, 4],
      ['in_flight', group, 2],
      ['oldest_handler_seconds', group, 2.5],
      ['all_handlers_busy_seconds', group, 0.5],
      ['loop_healthy', group, 1],
      ['group_lag', both, 3],
      ['group_lag_seconds', both, 1.5],
      ['group_pending', both, 2],
      ['group_oldest_pending_seconds', both, 4],
      ['stream_entries', { stream: 'orders' }, 10],
    ]);
    expect(text.value(`${PREFIX}dead_letters_total`, both)).toBe(0);
  });

  it('a number that Redis did not tell is absent, not 0; with nothing pending the oldest has the age 0', async () => {
    const { metrics, scrape } = exporter();
    const streamer = new FakeSource();
    streamer.loops = [{ streams: [{ ...KNOWN, lag: undefined, pending: 0, oldestPendingIdle: undefined }] }];
    metrics.attach(streamer);
    const text = await scrape();
    expect(text.samples(`${PREFIX}group_lag`)).toEqual([]);
    expect(text.value(`${PREFIX}group_lag_seconds`)).toBe(1.5);
    expect(text.value(`${PREFIX}group_oldest_pending_seconds`)).toBe(0);
    streamer.loops = [{ streams: [{}] }];
    const later = await scrape();
    for (const name of ['group_pending', 'group_oldest_pending_seconds', 'group_lag_seconds', 'stream_entries'])
      expect(later.samples(PREFIX + name)).toEqual([]);
  });

  it('shards of one stream are added up, and the oldest counts; a shard that is not known makes the sum unknown', async () => {
    const { metrics, scrape } = exporter();
    const streamer = new FakeSource();
    streamer.loops = [
      { streams: [KNOWN] },
      { streams: [{ ...KNOWN, shardId: 1, lagSeconds: 9, oldestPendingIdle: 1_000 }] },
    ];
    metrics.attach(streamer);
    const text = await scrape();
    const names = ['group_lag', 'group_lag_seconds', 'group_pending', 'group_oldest_pending_seconds', 'stream_entries'];
    expect(names.map((name) => text.value(PREFIX + name))).toEqual([6, 9, 4, 4, 20]);
    streamer.loops.push({ streams: [{ ...KNOWN, shardId: 2, lag: undefined }] });
    const later = await scrape();
    expect(names.map((name) => later.value(PREFIX + name))).toEqual([undefined, 9, 6, 4, 30]);
  });

  it('streamers that read the same stream in one group are not summed, and what one knows suffices', async () => {
    const { metrics, scrape } = exporter();
    for (const streams of [[KNOWN], [{ ...KNOWN, lag: undefined }], [KNOWN]]) {
      const streamer = new FakeSource();
      streamer.loops = [{ streams, buffered: 1 }];
      metrics.attach(streamer);
    }
    const other = new FakeSource();
    other.loops = [{ group: 'mailer', streams: [{ ...KNOWN, lag: 8 }] }];
    metrics.attach(other);
    const text = await scrape();
    expect(text.value(`${PREFIX}group_lag`, { group: 'orders-service' })).toBe(3);
    expect(text.value(`${PREFIX}group_lag`, { group: 'mailer' })).toBe(8);
    expect(text.value(`${PREFIX}stream_entries`)).toBe(10);
    expect(text.value(`${PREFIX}buffered`, { group: 'orders-service' })).toBe(3);
  });

  it('streams of answers to requests have no series of their own', async () => {
    const { metrics, scrape } = exporter();
    const client = new FakeSource();
    client.loops = [
      { group: undefined, isForReplies: true, streams: [{ ...KNOWN, streamKey: 'reply-7' }], streamKeys: ['reply-7'] },
    ];
    metrics.attach(client);
    const text = await scrape();
    const labels = text.families.flatMap(({ samples }) => samples).map((sample) => sample.labels['stream']);
    expect(labels).not.toContain('reply-7');
    expect(text.value(`${PREFIX}loop_healthy`, { group: '' })).toBe(1);
  });

  it('the worst connection and the worst loop count', async () => {
    const { metrics, scrape } = exporter();
    const [one, two] = [new FakeSource(), new FakeSource()];
    one.loops = [{ oldestHandler: 1_000 }, { oldestHandler: 3_000, isHealthy: false }];
    two.status = 'reconnecting';
    two.loops = [{ oldestHandler: 2_000 }];
    metrics.attach(one);
    metrics.attach(two);
    const text = await scrape();
    expect(text.value(`${PREFIX}connection_up`)).toBe(0);
    expect(text.value(`${PREFIX}loop_healthy`)).toBe(0);
    expect(text.value(`${PREFIX}oldest_handler_seconds`)).toBe(3);
  });

  it('when a streamer disconnects its gauges disappear, and what it has counted stays', async () => {
    const { metrics, scrape } = exporter();
    const first = new FakeSource();
    first.loops = [{ restarts: 2, streams: [KNOWN] }];
    first.reconnects = 3;
    const detach = metrics.attach(first);
    await scrape();
    first.reconnects = 5;
    first.loops = [];
    detach();
    const between = await scrape();
    const shown = between.families.filter(({ type, samples }) => type === 'gauge' && samples.length > 0);
    expect(shown).toEqual([]);

    const second = new FakeSource();
    second.loops = [{ restarts: 1 }];
    second.reconnects = 1;
    metrics.attach(second);
    const text = await scrape();
    expect(text.value(`${PREFIX}reconnects_total`)).toBe(6);
    expect(text.value(`${PREFIX}read_loop_restarts_total`)).toBe(3);
  });

  it('a streamer that is attached twice counts once, until both have let go', async () => {
    const { metrics, scrape } = exporter();
    const streamer = new FakeSource();
    streamer.queued = 2;
    streamer.reconnects = 1;
    const detach = metrics.attach(streamer);
    metrics.attach(streamer);
    expect((await scrape()).value(`${PREFIX}queued`)).toBe(2);
    detach();
    expect((await scrape()).value(`${PREFIX}queued`)).toBe(2);
    expect((await scrape()).value(`${PREFIX}reconnects_total`)).toBe(1);
  });
});

describe('prometheus(): what Redis is asked', () => {
  it('once for all metrics of a scrape, and not again within pollInterval', async () => {
    const { metrics, scrape } = exporter({ pollInterval: 60_000 });
    const streamer = new FakeSource();
    streamer.loops = [{ streams: [KNOWN] }];
    metrics.attach(streamer);
    for (let count = 0; count < 3; count += 1) expect((await scrape()).value(`${PREFIX}group_lag`)).toBe(3);
    expect(streamer.asked).toBe(1);
    const late = new FakeSource();
    late.loops = [{ group: 'late', streams: [KNOWN] }];
    metrics.attach(late);
    expect((await scrape()).value(`${PREFIX}group_lag`, { group: 'late' })).toBe(3);
    expect(streamer.asked).toBe(1);
  });

  it('a scrape does not wait longer than timeout, shows no old answer, and does not ask while an answer is due', async () => {
    const { metrics, scrape } = exporter({ timeout: 50 });
    const streamer = new FakeSource();
    streamer.loops = [{ streams: [KNOWN], buffered: 1 }];
    metrics.attach(streamer);
    expect((await scrape()).value(`${PREFIX}group_lag`)).toBe(3);

    const { promise, resolve } = withResolvers<void>();
    streamer.delay = promise;
    for (let count = 0; count < 2; count += 1) {
      const text = await scrape();
      expect(text.samples(`${PREFIX}group_lag`)).toEqual([]);
      expect(text.value(`${PREFIX}buffered`)).toBe(1);
    }
    expect(streamer.asked).toBe(2);
    resolve();
    streamer.delay = Promise.resolve();
    expect((await scrape()).value(`${PREFIX}group_lag`)).toBe(3);
  });

  it('a streamer that cannot be asked spoils nothing', async () => {
    const { metrics, scrape } = exporter();
    const [broken, fine] = [new FakeSource(), new FakeSource()];
    broken.delay = Promise.reject(new Error('no'));
    broken.delay.catch(() => undefined);
    fine.loops = [{ streams: [KNOWN] }];
    metrics.attach(broken);
    metrics.attach(fine);
    expect((await scrape()).value(`${PREFIX}group_lag`)).toBe(3);
  });

  it('a streamer that disconnects during a scrape is not shown', async () => {
    const { metrics, scrape } = exporter();
    const { promise, resolve } = withResolvers<void>();
    const streamer = new FakeSource();
    streamer.delay = promise;
    const detach = metrics.attach(streamer);
    const scraping = scrape();
    detach();
    resolve();
    expect((await scraping).samples(`${PREFIX}connection_up`)).toEqual([]);
  });
});

describe('prometheus(): the registry', () => {
  it('has every metric with type, help and, where there are series, exactly the labels of its definition', async () => {
    const { metrics, scrape } = exporter();
    const streamer = new FakeSource();
    streamer.loops = [{ streams: [KNOWN] }];
    metrics.attach(streamer);
    metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
    metrics.startProcess([message()], processing(source)).end([outcome({ settlement: 'ack' })], 5);
    metrics.startRequest({ pattern: 'sum', streamKey: 'sum', source }).end({}, 5);
    metrics.failed(new RedisStreamsError('ERR_X', 'x'));
    const text = await scrape();
    const shown = text.families.map(({ name, type, help, samples }) => {
      const labels = Object.keys(samples[0]?.labels ?? {}).filter((label) => label !== 'le');
      return { name: name.replace(PREFIX, ''), type, labels, help };
    });
    expect(shown).toEqual(METRICS.map(({ name, type, labels, help }) => ({ name, type, labels, help })));
  });

  it('is the global one by default', () => {
    const before = register.getMetricsAsArray().length;
    try {
      prometheus({ prefix: 'by_default_' });
      expect(register.getMetricsAsArray()).toHaveLength(before + METRICS.length);
    } finally {
      for (const { name } of METRICS) register.removeSingleMetric(`by_default_${name}`);
    }
  });

  it('may be one for OpenMetrics, scraped again and again', async () => {
    const registry = new Registry<OpenMetricsContentType>();
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
    const metrics = prometheus({ registry });
    metrics.startSend?.(sending(source))?.end({ id: '1-0' }, 5);
    for (let count = 0; count < 2; count += 1) {
      const text = await registry.metrics();
      expect(text).toContain(`# TYPE ${PREFIX}messages_sent counter`);
      expect(text).toContain(`${PREFIX}messages_sent_total{stream="orders",outcome="sent"} 1`);
      expect(text.endsWith('# EOF\n')).toBe(true);
    }
  });

  it('gives two applications in one process one set of metrics, whatever the second one leaves out', async () => {
    const registry = new Registry();
    const [first, second] = [exporter({ registry, maxLabelValues: 10 }), exporter({ registry })];
    expect(second.metrics).toBe(first.metrics);
    expect(() => prometheus({ registry, maxLabelValues: 11 })).toThrow(
      'maxLabelValues must be 10, as in the first prometheus() for this registry and prefix; got 11',
    );
    expect(() => prometheus({ registry, buckets: [1] })).toThrow(/^buckets must be 0.001,/);
  });

  it('has metrics side by side under different prefixes', async () => {
    const registry = new Registry();
    const [one, two] = [exporter({ registry, prefix: 'one_' }), exporter({ registry, prefix: 'two_' })];
    one.metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
    const text = await two.scrape();
    expect(text.value('one_messages_sent_total', { outcome: 'sent' })).toBe(1);
    expect(text.samples('two_messages_sent_total')).toEqual([]);
  });

  it('begins at 0 after it was cleared, and after its metrics were reset', async () => {
    const registry = new Registry();
    const first = exporter({ registry });
    first.metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
    registry.resetMetrics();
    expect((await first.scrape()).samples(`${PREFIX}messages_sent_total`)).toEqual([]);
    registry.clear();
    const second = exporter({ registry });
    expect(second.metrics).not.toBe(first.metrics);
    second.metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
    expect((await second.scrape()).value(`${PREFIX}messages_sent_total`, { outcome: 'sent' })).toBe(1);
  });

  it('is refused when the application has a metric with one of the names, and nothing is registered then', () => {
    const registry = new Registry();
    const name = `${PREFIX}stream_entries`;
    new Counter({ name, help: 'own', registers: [registry] });
    expect(() => prometheus({ registry })).toThrow(
      `prefix must be another one: the registry has a metric ${name} already`,
    );
    expect(registry.getMetricsAsArray()).toHaveLength(1);
  });

  it('joins the processes of a cluster: counters are added up, what Redis tells is not', async () => {
    const all = await Promise.all(
      [1, 2].map(async () => {
        const { metrics, registry } = exporter();
        const streamer = new FakeSource();
        streamer.loops = [{ streams: [KNOWN], buffered: 1 }];
        metrics.attach(streamer);
        metrics.startSend(sending(source)).end({ id: '1-0' }, 5);
        return JSON.parse(JSON.stringify(await registry.getMetricsAsJSON())) as object;
      }),
    );
    const text = parseExposition(await AggregatorRegistry.aggregate(all).metrics());
    expect(text.value(`${PREFIX}messages_sent_total`, { outcome: 'sent' })).toBe(2);
    expect(text.value(`${PREFIX}send_duration_seconds_count`)).toBe(2);
    expect(text.value(`${PREFIX}buffered`)).toBe(2);
    expect(text.value(`${PREFIX}group_lag`)).toBe(3);
  });
});

describe('prometheus(): options', () => {
  it.each<[option: string, options: object]>([
    ['registry', { registry: {} }],
    ['registry', { registry: null }],
    ['prefix', { prefix: '1_' }],
    ['prefix', { prefix: 'a-' }],
    ['prefix', { prefix: 7 }],
    ['pollInterval', { pollInterval: -1 }],
    ['timeout', { timeout: 0 }],
    ['maxLabelValues', { maxLabelValues: 0 }],
    ['buckets', { buckets: [] }],
    ['buckets', { buckets: [1, 1] }],
    ['buckets', { buckets: [0, 1] }],
    ['buckets', { buckets: ['1'] }],
    ['pollinterval', { pollinterval: 1 }],
  ])('%s is refused in %j', (option, options) => {
    const registry = new Registry();
    expect(() => prometheus({ registry, ...options } as PrometheusOptions)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', option }),
    );
    expect(registry.getMetricsAsArray()).toEqual([]);
  });
});
