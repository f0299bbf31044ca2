import type { StreamHealth } from '../engine/health.js';
import type { SourceReport } from './attached-source.js';
import type { GaugeName, LabelName } from './metrics.js';
import { limited } from './series.js';
import type { LabelLimits, Labels, Sample } from './series.js';

/**
 * The gauges of all streamers together. Streamers that read one stream in one group, and loops that read different shards of
 * it, have one series.
 */
export function gaugesOf(reports: readonly SourceReport[], limits: LabelLimits): GaugeTable {
  const gauges = new GaugeTable(limits);
  for (const { server, stats, health } of reports) {
    const address = server === undefined ? '' : `${server.host}:${server.port}`;
    gauges.add('connection_up', { server: address }, stats.status === 'connected' ? 1 : 0, Math.min);
    gauges.add('queued', {}, stats.queued, sum);
    for (const { group = '', buffered, inFlight, oldestHandler = 0, allBusyFor = 0 } of stats.loops) {
      gauges.add('buffered', { group }, buffered, sum);
      gauges.add('in_flight', { group }, inFlight, sum);
      gauges.add('oldest_handler_seconds', { group }, oldestHandler / 1_000, Math.max);
      gauges.add('all_handlers_busy_seconds', { group }, allBusyFor / 1_000, Math.max);
    }
    for (const { group = '', isHealthy } of health?.loops ?? [])
      gauges.add('loop_healthy', { group }, isHealthy ? 1 : 0, Math.min);
  }
  addStreams(gauges, reports);
  return gauges;
}

/** What Redis knows is the same for every streamer that asks, so it is added up over shards only. */
function addStreams(gauges: GaugeTable, reports: readonly SourceReport[]): void {
  const shards = new Map<string, StreamHealth>();
  const shardsOfGroups = new Map<string, StreamHealth & { readonly group: string }>();
  for (const { health } of reports)
    for (const { group, streams, isForReplies } of health?.loops ?? []) {
      if (isForReplies) continue;
      for (const stream of streams) {
        const shard = `${stream.shardId}\n${stream.streamKey}`;
        shards.set(shard, mostKnown(stream, shards.get(shard)));
        if (group === undefined) continue;
        const key = `${shard}\n${group}`;
        shardsOfGroups.set(key, { ...mostKnown(stream, shardsOfGroups.get(key)), group });
      }
    }
  for (const { streamKey: stream, entries } of shards.values()) gauges.add('stream_entries', { stream }, entries, sum);
  for (const { streamKey: stream, group, ...numbers } of shardsOfGroups.values()) {
    const labels = { stream, group };
    gauges.add('group_lag', labels, numbers.lag, sum);
    gauges.add('group_lag_seconds', labels, numbers.lagSeconds, Math.max);
    gauges.add('group_pending', labels, numbers.pending, sum);
    const idle = numbers.pending === 0 ? 0 : numbers.oldestPendingIdle;
    gauges.add('group_oldest_pending_seconds', labels, idle === undefined ? undefined : idle / 1_000, Math.max);
  }
}

/** Two answers about one shard; one of them may have come too late. */
function mostKnown(one: StreamHealth, other: StreamHealth = one): StreamHealth {
  return {
    ...one,
    entries: one.entries ?? other.entries,
    lag: one.lag ?? other.lag,
    lagSeconds: one.lagSeconds ?? other.lagSeconds,
    pending: one.pending ?? other.pending,
    oldestPendingIdle: one.oldestPendingIdle ?? other.oldestPendingIdle,
  };
}

function sum(one: number, other: number): number {
  return one + other;
}

/** The values of all gauges. A number that is not known for a part is not known for the whole, and is not shown. */
export class GaugeTable {
  readonly #limits: LabelLimits;
  readonly #gauges = new Map<GaugeName, Map<string, { readonly labels: Labels; value: number | undefined }>>();

  constructor(limits: LabelLimits) {
    this.#limits = limits;
  }

  /** @param combine joins the values of what has the same labels */
  add(
    name: GaugeName,
    given: Readonly<Partial<Record<LabelName, string>>>,
    value: number | undefined,
    combine: (one: number, other: number) => number,
  ): void {
    const values = Object.entries(given).map(([label, value]) => limited(this.#limits, label as LabelName, value));
    const key = values.join('\n');
    const series = this.#gauges.get(name) ?? new Map<string, { readonly labels: Labels; value: number | undefined }>();
    this.#gauges.set(name, series);
    const before = series.get(key);
    if (!before)
      series.set(key, {
        labels: Object.fromEntries(Object.keys(given).map((label, index) => [label, values[index]])),
        value,
      });
    else before.value = before.value === undefined || value === undefined ? undefined : combine(before.value, value);
  }

  samples(name: GaugeName): Sample[] {
    return [...(this.#gauges.get(name)?.values() ?? [])].flatMap(({ labels, value }) =>
      value === undefined ? [] : [{ labels, value }],
    );
  }
}
