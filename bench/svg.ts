import type { BarSeriesOption, ScatterSeriesOption } from 'echarts/charts';

import { METRIC_NAMES, times } from './format.js';
import type { EntrantResult, RowResult } from './results.js';
import { MORE_IS_BETTER } from './row.js';
import type { Metric } from './row.js';
import { FONT, MARGIN, color, heading, renderSvg } from './svg-theme.js';

/** The horizontal range of the bars; names are to the left, figures to the right. */
const BARS = { left: 330, width: 490 } as const;
const LINE = 22;
const BAR = 14;
const HEADING = 46;
type Bar = Pick<EntrantResult, 'name' | 'isPeer' | 'ratios'>;

export interface ChartRow extends Pick<RowResult, 'title' | 'metrics' | 'baseline' | 'checks'> {
  readonly entrants: readonly Bar[];
}

/** What the chart shows, for those who do not see it, and its two kinds of bars; without a target nothing is checked. */
export interface Legend {
  readonly label: string;
  readonly ours: string;
  readonly peers: string;
  readonly target?: string;
}

const BENCHMARKS: Legend = {
  label: 'Messages, latency and cost as multiples of the baseline of each benchmark',
  ours: 'this package',
  peers: 'others',
  target: 'target',
};

/** The bars of one row, in multiples of its baseline, and where its heading begins. */
interface Group {
  readonly row: ChartRow;
  readonly metric: Metric;
  readonly entrants: readonly Bar[];
  readonly top: number;
}

/** Draws every row with a baseline as bars on one scale. */
export function drawChart({ rows }: { readonly rows: readonly ChartRow[] }, legend: Legend = BENCHMARKS): string {
  const groups = groupsOf(rows);
  const end = groups.reduce((top, { entrants }) => top + heightOf(entrants), MARGIN);
  const longest = Math.max(1, ...groups.flatMap((group) => group.entrants.map((entrant) => endOf(group, entrant))));
  return renderSvg(end + LINE + MARGIN, legend.label, {
    title: groups.map(titleOf),
    grid: groups.map(({ entrants, top }) => ({ ...BARS, top: top + HEADING, height: entrants.length * LINE })),
    xAxis: groups.map((_, gridIndex) => ({ type: 'value', gridIndex, min: 0, max: longest, show: false })),
    yAxis: groups.map(({ entrants }, gridIndex) => ({
      type: 'category',
      gridIndex,
      inverse: true,
      data: entrants.map(({ name }) => name),
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { color: color('text'), fontSize: 13, fontFamily: FONT },
    })),
    series: groups.flatMap(seriesOf),
    graphic: legendAt(end, legend),
  });
}

function groupsOf(rows: readonly ChartRow[]): Group[] {
  let top = MARGIN;
  return rows.flatMap((row) => {
    if (row.baseline === undefined) return [];
    const entrants = row.entrants.filter(({ name }) => name !== row.baseline);
    return row.metrics.map((metric) => {
      const group = { row, metric, entrants, top };
      top += heightOf(entrants);
      return group;
    });
  });
}

function heightOf(entrants: readonly Bar[]): number {
  return HEADING + entrants.length * LINE + MARGIN;
}

function titleOf({ row, metric, top }: Group): object {
  const better = MORE_IS_BETTER.has(metric) ? 'more is better' : 'less is better';
  return heading(row.title, `${METRIC_NAMES[metric]}, ${better}; 1× is ${row.baseline ?? ''}`, top);
}

/** Bars with a line at 1×, targets, and the figure of each bar behind both. */
function seriesOf(group: Group, index: number): Array<BarSeriesOption | ScatterSeriesOption> {
  const axes = { xAxisIndex: index, yAxisIndex: index, silent: true };
  const limits = group.entrants.flatMap((entrant) => {
    const limit = limitOf(group, entrant);
    return limit === undefined ? [] : [[limit, entrant.name]];
  });
  return [
    {
      ...axes,
      type: 'bar',
      barWidth: BAR,
      data: group.entrants.map((entrant) => ({
        value: ratio(group, entrant),
        itemStyle: { color: color(entrant.isPeer ? 'peer' : 'ours'), borderRadius: 2 },
      })),
      markLine: {
        symbol: 'none',
        label: { show: false },
        lineStyle: { color: color('small'), type: 'dashed', width: 1 },
        data: [{ xAxis: 1 }],
      },
    },
    {
      ...axes,
      type: 'scatter',
      symbol: 'rect',
      symbolSize: [2, BAR + 4],
      itemStyle: { color: color('target'), opacity: 1 },
      data: limits,
    },
    {
      ...axes,
      type: 'scatter',
      symbolSize: 0,
      data: group.entrants.map((entrant) => ({
        value: [endOf(group, entrant), entrant.name],
        label: { show: true, position: 'right', formatter: times(ratio(group, entrant)) },
      })),
      label: { color: color('text'), fontSize: 13, fontFamily: FONT },
    },
  ];
}

/** Where nothing is drawn any more of an entrant: behind its bar and its target. */
function endOf(group: Group, entrant: Bar): number {
  return Math.max(ratio(group, entrant), limitOf(group, entrant) ?? 0);
}

function limitOf({ row, metric }: Group, { name }: Bar): number | undefined {
  const target = row.checks.find((check) => check.entrant === name && check.metric === metric);
  return target?.atLeast ?? target?.atMost;
}

function legendAt(y: number, { ours, peers, target }: Legend): object[] {
  const box = (x: number, width: number, fill: string): object => ({
    type: 'rect',
    shape: { x, y, width, height: 12 },
    style: { fill },
    silent: true,
  });
  const text = (x: number, words: string): object => ({
    type: 'text',
    x,
    y: y + 1,
    style: { text: words, fill: color('small'), font: `12px ${FONT}` },
    silent: true,
  });
  const bars = [
    box(MARGIN, 12, color('ours')),
    text(MARGIN + 18, ours),
    box(MARGIN + 120, 12, color('peer')),
    text(MARGIN + 138, peers),
  ];
  return target === undefined ? bars : [...bars, box(MARGIN + 206, 2, color('target')), text(MARGIN + 214, target)];
}

function ratio({ metric }: Group, { ratios }: Bar): number {
  return ratios[metric]?.median ?? 0;
}
