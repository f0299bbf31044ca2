import { METRIC_NAMES, describeSpread, describeTarget, formatOf, targetFormat, times } from './format.js';
import type { Format } from './format.js';
import { hasPassed } from './results.js';
import type { EntrantResult, Results, RowResult } from './results.js';
import type { Metric } from './row.js';
import type { Summary } from './statistics.js';

/** A row with all its entrants, for the console. */
export function describeRow(row: RowResult): string {
  const { name, title, note, metrics, baseline, entrants, failure } = row;
  const heading = `\n${name}: ${title}\n${note}\n`;
  if (failure !== undefined) return `${heading}\nFAILED: ${failure}`;
  const hasRatios = baseline !== undefined;
  const hasCpu = !metrics.includes('cpu') && entrants.some(({ measures }) => measures.cpu);
  const spread = 'lowest … highest';
  const headings = [
    '',
    ...metrics.flatMap((metric) => [METRIC_NAMES[metric], spread, ...(hasRatios ? ['ratio', spread] : [])]),
    ...(hasCpu ? [METRIC_NAMES.cpu] : []),
    'peak RSS',
  ];
  const figures = ({ measures, ratios }: EntrantResult, metric: Metric): string[] => [
    ...cells(measures[metric], formatOf(metric)),
    ...(hasRatios ? cells(ratios[metric], times) : []),
  ];
  const lines = entrants.map((entrant) => [
    entrant.isPeer ? `  ${entrant.name}` : entrant.name,
    ...metrics.flatMap((metric) => figures(entrant, metric)),
    ...(hasCpu ? [cells(entrant.measures.cpu, formatOf('cpu'))[0]] : []),
    `${(entrant.peakMemory / 2 ** 20).toFixed(0)} MiB`,
  ]);
  return `${heading}\n${textTable([headings, ...lines], 1)}`;
}

/** Every target of a run with its outcome. */
export function describeTargets({ rows, missing }: Results): string {
  const lines = rows.flatMap((row): string[][] => {
    if (row.failure !== undefined) return [[row.name, row.title, '', '', '', 'FAILED']];
    return row.checks.map((check) => {
      const { metric, entrant, measured } = check;
      const format = targetFormat(metric, row.baseline);
      const verdict = check.hasPassed ? 'met' : 'missed';
      const what = `${METRIC_NAMES[metric]}, ${entrant}`;
      return [row.name, what, describeTarget(check, format), ...cells(measured, format), verdict];
    });
  });
  const headings = ['', '', 'target', 'measured', 'lowest … highest', ''];
  const passed = rows.filter(hasPassed).length;
  const table = `\n${textTable([headings, ...lines], 2)}\n\n${passed} of ${rows.length} rows pass`;
  return [table, ...missing].join('\n');
}

function cells(summary: Summary | undefined, format: Format): [median: string, spread: string] {
  return summary ? [format(summary.median), describeSpread(summary, format)] : ['', ''];
}

/** @param words so many columns begin at the left; the others, which are figures, end at the right */
export function textTable(lines: readonly string[][], words: number): string {
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => (line[column] ?? '').length)));
  const pad = (cell: string, column: number): string => {
    const width = widths[column] ?? 0;
    return column < words ? cell.padEnd(width) : cell.padStart(width);
  };
  return lines.map((line) => line.map(pad).join('   ').trimEnd()).join('\n');
}
