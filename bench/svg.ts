import { METRIC_NAMES, times } from './format.js';
import type { EntrantResult, RowResult } from './results.js';
import { MORE_IS_BETTER } from './row.js';
import type { Metric } from './row.js';

const WIDTH = 900;
const MARGIN = 16;
/** The horizontal range of the bars; names are to the left, figures to the right. */
const BARS = { from: 330, to: 820 } as const;
const LINE = 22;
const BAR = 14;
const HEADING = 46;

/** Colors for light and dark pages, chosen by the reader's system. */
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .heading { font-weight: 600; }
  .small { font-size: 12px; fill: #59636e; }
  .name { text-anchor: end; }
  .ours { fill: #2563eb; }
  .peer { fill: #9aa4b2; }
  .one { stroke: #59636e; stroke-dasharray: 3 3; }
  .target { stroke: #d1242f; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .small { fill: #9198a1; }
    .ours { fill: #60a5fa; }
    .one { stroke: #9198a1; }
    .target { stroke: #ff7b72; }
  }`;

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

/** The bars of one row, in multiples of its baseline. */
interface Group {
  readonly row: ChartRow;
  readonly metric: Metric;
  readonly entrants: readonly Bar[];
}

/** Draws every row with a baseline as bars on one scale. */
export function drawChart({ rows }: { readonly rows: readonly ChartRow[] }, legend: Legend = BENCHMARKS): string {
  const groups = rows.flatMap(groupsOf);
  const ratios = groups.flatMap((group) => group.entrants.map((entrant) => ratio(group, entrant)));
  const limits = groups.flatMap(({ row }) => row.checks.map(({ atLeast, atMost }) => atLeast ?? atMost ?? 0));
  const longest = Math.max(1, ...ratios, ...limits);
  const x = (value: number): number => round(BARS.from + (value / longest) * (BARS.to - BARS.from));
  const drawn: string[] = [];
  let y = MARGIN;
  for (const group of groups) {
    const height = HEADING + group.entrants.length * LINE;
    drawn.push(`<g transform="translate(0 ${y})">`, ...drawGroup(group, height, x), '</g>');
    y += height + MARGIN;
  }
  drawn.push(...drawLegend(y, legend));
  const height = y + LINE + MARGIN;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escape(legend.label)}">
<style>${STYLE}
</style>
${drawn.join('\n')}
</svg>
`;
}

function groupsOf(row: ChartRow): Group[] {
  if (row.baseline === undefined) return [];
  const entrants = row.entrants.filter(({ name }) => name !== row.baseline);
  return row.metrics.map((metric) => ({ row, metric, entrants }));
}

function drawGroup(group: Group, height: number, x: (value: number) => number): string[] {
  const { row, metric, entrants } = group;
  const better = MORE_IS_BETTER.has(metric) ? 'more is better' : 'less is better';
  const subtitle = `${METRIC_NAMES[metric]}, ${better}; 1× is ${row.baseline ?? ''}`;
  return [
    `<text class="heading" x="${MARGIN}" y="14">${escape(row.title)}</text>`,
    `<text class="small" x="${MARGIN}" y="31">${escape(subtitle)}</text>`,
    ...entrants.flatMap((entrant, index) => drawBar(group, entrant, HEADING + index * LINE, x)),
    `<line class="one" x1="${x(1)}" x2="${x(1)}" y1="${HEADING - 6}" y2="${height}"/>`,
  ];
}

function drawBar(group: Group, entrant: Bar, y: number, x: (value: number) => number): string[] {
  const value = ratio(group, entrant);
  const target = group.row.checks.find((check) => check.entrant === entrant.name && check.metric === group.metric);
  const limit = target?.atLeast ?? target?.atMost;
  const middle = y + BAR - 3;
  const kind = entrant.isPeer ? 'peer' : 'ours';
  const end = Math.max(x(value), limit === undefined ? 0 : x(limit));
  return [
    `<text class="name" x="${BARS.from - 8}" y="${middle}">${escape(entrant.name)}</text>`,
    `<rect class="${kind}" x="${BARS.from}" y="${y}" width="${round(x(value) - BARS.from)}" height="${BAR}" rx="2"/>`,
    ...(limit === undefined ? [] : [line('target', x(limit), y - 2, y + BAR + 2)]),
    `<text x="${end + 8}" y="${middle}">${times(value)}</text>`,
  ];
}

function drawLegend(y: number, { ours, peers, target }: Legend): string[] {
  const drawn = [
    `<rect class="ours" x="${MARGIN}" y="${y}" width="12" height="12" rx="2"/>`,
    `<text class="small" x="${MARGIN + 18}" y="${y + 11}">${escape(ours)}</text>`,
    `<rect class="peer" x="${MARGIN + 120}" y="${y}" width="12" height="12" rx="2"/>`,
    `<text class="small" x="${MARGIN + 138}" y="${y + 11}">${escape(peers)}</text>`,
  ];
  if (target === undefined) return drawn;
  return [
    ...drawn,
    line('target', MARGIN + 206, y - 1, y + 13),
    `<text class="small" x="${MARGIN + 214}" y="${y + 11}">${escape(target)}</text>`,
  ];
}

function line(kind: string, x: number, from: number, to: number): string {
  return `<line class="${kind}" x1="${x}" x2="${x}" y1="${from}" y2="${to}"/>`;
}

function ratio({ metric }: Group, { ratios }: Bar): number {
  return ratios[metric]?.median ?? 0;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
