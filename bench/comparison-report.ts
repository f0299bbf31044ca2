import type { ComparedEntrant, ComparedRow } from './comparison.js';
import { METRIC_NAMES, describeSpread, formatOf, times } from './format.js';
import { markdownTable } from './markdown.js';
import { textTable } from './report.js';
import type { Results } from './results.js';
import type { Metric } from './row.js';

/** Of a cluster, in messages for the same CPU time of the client on one server. */
const LEAST_IN_CLUSTER = 0.85;

/** Both figures of every metric, for the console. */
export function describeComparison({ name, title, sides, entrants, failure }: ComparedRow): string {
  const heading = `\n${name}: ${title}\n`;
  if (failure !== undefined) return `${heading}\nFAILED: ${failure}`;
  const lines = entrants.flatMap((entrant) =>
    entrant.metrics.map(({ metric, figures: [first, second], ratio, bestRatio, verdict }) => {
      const format = formatOf(metric);
      return [
        entrant.name,
        METRIC_NAMES[metric],
        format(first.median),
        format(second.median),
        times(ratio.median),
        describeSpread(ratio, times),
        times(bestRatio),
        verdict,
      ];
    }),
  );
  return `${heading}\n${textTable([['', '', ...sides, 'ratio', 'lowest … highest', 'best rounds', ''], ...lines], 2)}`;
}

/** Whether this checkout is worse than the other one anywhere. */
export function describeRegressions(rows: readonly ComparedRow[]): string {
  const lines = rows.flatMap(({ name, entrants, failure }) => {
    if (failure !== undefined) return [`${name}: FAILED`];
    return entrants.flatMap((entrant) =>
      entrant.metrics
        .filter(({ verdict }) => verdict === 'worse')
        .map(({ metric, ratio }) => `${name}, ${entrant.name}: ${METRIC_NAMES[metric]} ${times(ratio.median)}`),
    );
  });
  return lines.length === 0 ? '\nNothing is worse beyond noise' : `\nWorse beyond noise:\n${lines.join('\n')}`;
}

/** Whether every row needs little enough CPU time in a cluster. */
export function describeClusterTargets(rows: readonly ComparedRow[]): string {
  const lines = rows.flatMap((row): string[][] => {
    if (row.failure !== undefined) return [[row.name, '', '', 'FAILED']];
    return row.entrants.map((entrant) => {
      const verdict = isCheapInCluster(entrant) ? 'pass' : 'FAIL';
      return [row.name, `≥ ${times(LEAST_IN_CLUSTER)}`, times(messagesForSameCpu(entrant)), verdict];
    });
  });
  return `\n${textTable([['messages for the same CPU', 'target', 'measured', ''], ...lines], 1)}`;
}

export function isCheapInCluster(entrant: ComparedEntrant): boolean {
  return messagesForSameCpu(entrant) >= LEAST_IN_CLUSTER;
}

function messagesForSameCpu(entrant: ComparedEntrant): number {
  return 1 / (figuresOf(entrant, 'cpu')?.ratio.median ?? Number.NaN);
}

/** What the library's own wire brings, as a table for the documentation. */
export function describeWire(
  environment: Results['environment'],
  places: ReadonlyArray<readonly [place: string, row: ComparedRow]>,
): string {
  const [rounds = 0] = places.map(([, row]) => row.rounds);
  const metrics: readonly Metric[] = ['rate', 'cpu'];
  const headings = metrics.flatMap((metric) => [
    `${METRIC_NAMES[metric]} with`,
    'without',
    'ratio',
    'lowest … highest',
  ]);
  const lines = places.flatMap(([place, { name, entrants, failure }]) =>
    failure === undefined
      ? entrants.map((entrant) => [`\`${name}\``, place, ...metrics.flatMap((metric) => wireCells(entrant, metric))])
      : [[`\`${name}\``, place, `FAILED: ${failure}`]],
  );
  return `
ioredis ${environment.ioredis}, Redis ${environment.redis}, Node ${environment.node}, ${environment.cores} cores, medians of ${rounds} rounds:

${markdownTable(['', '', ...headings], lines)}`;
}

function wireCells(entrant: ComparedEntrant, metric: Metric): string[] {
  const compared = figuresOf(entrant, metric);
  if (!compared) return ['', '', '', ''];
  const { figures, ratio } = compared;
  const [first, second] = figures.map(({ median }) => formatOf(metric)(median));
  return [first ?? '', second ?? '', times(ratio.median), describeSpread(ratio, times)];
}

function figuresOf({ metrics }: ComparedEntrant, wanted: Metric): ComparedEntrant['metrics'][number] | undefined {
  return metrics.find(({ metric }) => metric === wanted);
}
