import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import { parse } from 'yaml';

import { METRICS } from '../../lib/prometheus/metrics.js';
import type { MetricDefinition } from '../../lib/prometheus/metrics.js';

const read = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../docs/${name}`, import.meta.url)), 'utf8');

const METRICS_BY_NAME = new Map<string, MetricDefinition>(
  METRICS.map((metric) => [`redis_streams_${metric.name}`, metric]),
);

/** Labels that Prometheus gives every target. */
const OF_TARGETS = ['job', 'instance'];

/** Every value that a label may have, where there are few. */
const OUTCOMES: Record<string, readonly string[]> = {
  messages_sent_total: ['sent', 'failed'],
  messages_handled_total: ['ack', 'retry', 'dead-letter', 'failed', 'pending', 'expired', 'undecided'],
  request_duration_seconds: ['answered', 'failed', 'timeout', 'cancelled'],
};

interface Query {
  readonly title: string;
  readonly expr: string;
}

/** What a query of PromQL names that does not exist. */
function mistakesOf(expr: string): string[] {
  const mistakes: string[] = [];
  const known = new Set(OF_TARGETS);
  for (const [, name = '', part = '', selectors = ''] of expr.matchAll(
    /\b(redis_streams_\w+?)(_bucket|_sum|_count)?\b(?:\{([^}]*)\})?/g,
  )) {
    const metric = METRICS_BY_NAME.get(name);
    if (!metric || (metric.type === 'histogram') !== (part !== '')) {
      mistakes.push(`metric ${name}${part}`);
      continue;
    }
    for (const label of metric.labels) known.add(label);
    if (part === '_bucket') known.add('le');
    for (const [, label = '', operator, value = ''] of selectors.matchAll(/(\w+)(=~?|!=|!~)"([^"]*)"/g)) {
      if (![...metric.labels, ...OF_TARGETS].includes(label as never)) mistakes.push(`label ${label} of ${name}`);
      if (label !== 'outcome') continue;
      const values = operator === '=~' ? value.split('|') : [value];
      const wrong = values.filter((each) => !OUTCOMES[metric.name]?.includes(each));
      mistakes.push(...wrong.map((each) => `outcome ${each} of ${name}`));
    }
    if (metric.type === 'counter' && !new RegExp(`(?:rate|increase)\\(${name}`).test(expr))
      mistakes.push(`no rate of ${name}`);
  }
  for (const [, labels = ''] of expr.matchAll(/\b(?:by|on|without|ignoring) \(([^)]*)\)/g))
    for (const label of labels.split(', ')) if (!known.has(label)) mistakes.push(`grouping by ${label}`);
  if (!expr.includes('redis_streams_')) mistakes.push('no metric');
  return mistakes;
}

describe('the check of queries', () => {
  it.each([
    ['redis_streams_group_lags', ['metric redis_streams_group_lags']],
    ['redis_streams_send_duration_seconds', ['metric redis_streams_send_duration_seconds']],
    ['redis_streams_buffered{stream="a"}', ['label stream of redis_streams_buffered']],
    ['sum by (consumer) (redis_streams_buffered)', ['grouping by consumer']],
    ['rate(redis_streams_messages_sent_total{outcome="ok"}[5m])', ['outcome ok of redis_streams_messages_sent_total']],
    ['redis_streams_errors_total > 0', ['no rate of redis_streams_errors_total']],
    ['up == 0', ['no metric']],
    ['sum by (le, stream) (rate(redis_streams_send_duration_seconds_bucket{job="a"}[5m]))', []],
  ])('%s: %j', (expr, mistakes) => {
    expect(mistakesOf(expr)).toEqual(mistakes);
  });
});

describe('docs/observability.md', () => {
  const text = read('observability.md');
  const rowsAfter = (marker: string): string[][] => {
    const [, table = ''] = new RegExp(`<!-- ${marker} -->\\n\\n((?:\\|.*\\n)+)`).exec(text) ?? [];
    return table
      .trim()
      .split('\n')
      .slice(2)
      .map((row) => row.split('|').map((cell) => cell.trim().replaceAll('`', '')));
  };

  it('has the names, types and labels of all metrics', () => {
    const documented = rowsAfter('metrics').map(([, name, type, labels]) => ({ name, type, labels }));
    expect(documented).toEqual(METRICS.map(({ name, type, labels }) => ({ name, type, labels: labels.join(', ') })));
  });

  it.each(Object.entries(OUTCOMES))('names every outcome of %s', (name, outcomes) => {
    const [meaning = ''] = rowsAfter('metrics').flatMap(([, metric, , , cell = '']) => (metric === name ? [cell] : []));
    expect(outcomes.filter((outcome) => !new RegExp(`\\b${outcome}\\b`).test(meaning))).toEqual([]);
  });

  it('lists the alerts', () => {
    expect(rowsAfter('alerts').map(([, name]) => name)).toEqual(rules().map(({ alert }) => alert));
  });
});

interface AlertRule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string; readonly description: string };
}

function rules(): AlertRule[] {
  const { groups } = parse(read('observability/alerts.yaml')) as {
    groups: Array<{ name: string; rules: AlertRule[] }>;
  };
  return groups.flatMap((group) => group.rules);
}

describe('docs/observability/alerts.yaml', () => {
  it.each(rules())('$alert is a rule of Prometheus with metrics and labels that exist', (rule) => {
    expect(mistakesOf(rule.expr)).toEqual([]);
    const { for: duration = '0m', ...rest } = rule;
    expect(duration).toMatch(/^\d+m$/);
    expect(rest).toEqual({
      alert: expect.stringMatching(/^RedisStreams[A-Z]\w+$/),
      expr: expect.any(String),
      labels: { severity: expect.stringMatching(/^(?:warning|critical)$/) },
      annotations: { summary: expect.any(String), description: expect.any(String) },
    });
    const { summary, description } = rule.annotations;
    const named = [...`${summary} ${description}`.matchAll(/\$labels\.(\w+)/g)].map(([, label]) => label);
    const [, kept = ''] = /^\w+ by \(([^)]*)\)/.exec(rule.expr) ?? [];
    const [, metric = ''] = /\b(redis_streams_\w+)/.exec(rule.expr) ?? [];
    const labels = kept === '' ? [...OF_TARGETS, ...(METRICS_BY_NAME.get(metric)?.labels ?? [])] : kept.split(', ');
    expect(named.filter((label) => !labels.includes(label as never))).toEqual([]);
  });

  it('covers each way in which a service stands still', () => {
    const text = rules().map(({ expr }) => expr);
    for (const metric of [
      'connection_up',
      'group_lag',
      'group_lag_seconds',
      'group_oldest_pending_seconds',
      'dead_letters_total',
      'read_loop_restarts_total',
      'all_handlers_busy_seconds',
    ])
      expect(text.join('\n')).toMatch(new RegExp(`redis_streams_${metric}\\b`));
  });
});

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly datasource?: { readonly type: string; readonly uid: string };
  readonly gridPos: { readonly h: number; readonly w: number; readonly x: number; readonly y: number };
  readonly targets?: ReadonlyArray<{ readonly expr: string; readonly refId: string; readonly legendFormat: string }>;
}

interface Dashboard {
  readonly schemaVersion: number;
  readonly uid: string;
  readonly panels: readonly Panel[];
  readonly templating: {
    readonly list: ReadonlyArray<{
      readonly name: string;
      readonly type: string;
      readonly query: string | { readonly query: string };
    }>;
  };
}

describe('docs/observability/grafana-dashboard.json', () => {
  const dashboard = JSON.parse(read('observability/grafana-dashboard.json')) as Dashboard;
  const { panels } = dashboard;
  const variables = dashboard.templating.list;
  const queries = panels.flatMap(({ title, targets = [] }): Query[] => targets.map(({ expr }) => ({ title, expr })));

  it.each(queries)('$title: $expr asks for metrics and labels that exist', ({ expr }) => {
    expect(mistakesOf(expr)).toEqual([]);
    const used = [...expr.matchAll(/\$(\w+)/g)].map(([, name]) => name);
    const known = [...variables.map(({ name }) => name), '__rate_interval'];
    expect(used.filter((name) => !known.includes(name as string))).toEqual([]);
  });

  it('shows every metric', () => {
    const all = queries.map(({ expr }) => expr).join('\n');
    expect([...METRICS_BY_NAME.keys()].filter((name) => !new RegExp(`\\b${name}(?:_bucket)?\\b`).test(all))).toEqual(
      [],
    );
  });

  it('has variables that offer the values of labels that exist', () => {
    expect(variables.map(({ name }) => name)).toEqual(['datasource', 'job', 'group', 'stream']);
    const asked = variables.flatMap(({ query }) => (typeof query === 'string' ? [] : query.query));
    const labels = asked.map((query) => /^label_values\((.*), (\w+)\)$/.exec(query)?.slice(1) ?? []);
    expect(labels.map(([, label]) => label)).toEqual(['job', 'group', 'stream']);
    for (const [selector = '', label = ''] of labels) {
      const names = selector.match(/redis_streams_\w+/g) ?? [];
      expect(names).not.toEqual([]);
      for (const name of names) expect([...OF_TARGETS, ...(METRICS_BY_NAME.get(name)?.labels ?? [])]).toContain(label);
    }
  });

  it('has panels of core types with ids of their own, a description each, and places that do not overlap', () => {
    const { schemaVersion, uid } = dashboard;
    expect({ schemaVersion, uid }).toEqual({ schemaVersion: 39, uid: 'nestjs-redis-streams' });
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
    const cells = new Map<string, string>();
    for (const { title, description, datasource } of panels.filter(({ type }) => type !== 'row'))
      expect({ title, description: description ?? '', datasource }).toEqual({
        title,
        description: expect.stringMatching(/^[A-Z].*\.$/),
        datasource: { type: 'prometheus', uid: '${datasource}' },
      });
    for (const { title, type, gridPos, targets = [] } of panels) {
      expect(['row', 'stat', 'timeseries', 'state-timeline']).toContain(type);
      expect(new Set(targets.map(({ refId }) => refId)).size).toBe(targets.length);
      expect(gridPos.x + gridPos.w).toBeLessThanOrEqual(24);
      for (let { x } = gridPos; x < gridPos.x + gridPos.w; x += 1)
        for (let { y } = gridPos; y < gridPos.y + gridPos.h; y += 1) {
          expect([title, cells.get(`${x} ${y}`)]).toEqual([title, undefined]);
          cells.set(`${x} ${y}`, title);
        }
    }
  });
});
