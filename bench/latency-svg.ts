import type { EntrantResult, RowResult } from './results.js';
import { FONT, MARGIN, WIDTH, color, heading, renderSvg } from './svg-theme.js';

const HEIGHT = 320;
/** Right of the lines are their names. */
const GRID = { left: 64, right: 230, top: 70, bottom: 40 };

/** Draws a row's latencies by percentile, a line for each entrant; of results without percentiles p50 and p99 only. */
export function drawLatency({ title, entrants, baseline }: Pick<RowResult, 'title' | 'entrants' | 'baseline'>): string {
  const lines = entrants.map((entrant) => ({
    name: entrant.name,
    color: color(entrant.isPeer || entrant.name === baseline ? 'peer' : 'ours'),
    points: percentilesOf(entrant),
  }));
  const names = [...new Set(lines.flatMap(({ points }) => [...points.keys()]))].sort((a, b) => a - b);
  return renderSvg(HEIGHT, `${title}: latency by percentile`, {
    title: heading(title, 'milliseconds by percentile, less is better', MARGIN),
    grid: { ...GRID, width: WIDTH - GRID.left - GRID.right },
    xAxis: {
      type: 'category',
      data: names.map((name) => `p${name}`),
      boundaryGap: false,
      axisLine: { lineStyle: { color: color('small') } },
      axisLabel: { color: color('text'), fontFamily: FONT },
    },
    yAxis: {
      type: 'log',
      logBase: 2,
      axisLabel: { color: color('text'), fontFamily: FONT },
      splitLine: { lineStyle: { color: color('peer'), opacity: 0.3 } },
    },
    series: lines.map(({ name, color: own, points }) => ({
      type: 'line',
      data: names.map((percentile) => points.get(percentile) ?? null),
      connectNulls: true,
      symbolSize: 6,
      lineStyle: { color: own, width: 2 },
      itemStyle: { color: own },
      endLabel: { show: true, formatter: name, color: color('text'), fontFamily: FONT },
    })),
  });
}

function percentilesOf({ latency, measures: { p50, p99 } }: EntrantResult): Map<number, number> {
  if (latency) return new Map(latency.map(({ percentile, milliseconds }) => [percentile, milliseconds]));
  if (!p50 || !p99) return new Map();
  return new Map([
    [50, p50.median],
    [99, p99.median],
  ]);
}
