import type { ComparedEntrant, ComparedRow } from './comparison.js';
import { METRIC_NAMES, describeSpread, formatOf, times } from './format.js';
import { markdownTable } from './markdown.js';
import { textTable } from './report.js';
import type { Results } from './results.js';
import type { Metric } from './row.js';

/** Of a cluster, in messages for the same CPU time of the client on one server. */
const LEAST_IN_CLUSTER = 0.9;

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

/** Where this checkout is worse than the other one: in both runs of a row, or only in the first. */
export function describeRegressions(
  confirmed: readonly string[],
  unconfirmed: readonly string[],
  failed: readonly string[],
): string {
  const groups = [
    ['Worse in two runs:', confirmed],
    ['Worse in the first run, not in the second:', unconfirmed],
    ['Not measured:', failed],
  ] as const;
  const found = groups.filter(([, lines]) => lines.length > 0);
  if (found.length === 0) return '\nNothing is worse beyond noise';
  return found.map(([heading, lines]) => `\n${heading}\n${lines.join('\n')}`).join('\n');
}

/** Names of the figures in which the first side is worse. */
export function worseFigures({ name, entrants }: ComparedRow): string[] {
  return entrants.flatMap((entrant) =>
    entrant.metrics
      .filter(({ verdict }) => verdict === 'worse')
      .map(({ metric }) => `${name}, ${entrant.name}: ${METRIC_NAMES[metric]}`),
  );
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
      ? entrants.map((entrant) => [`\`${name}\`, ${place}`, ...metrics.flatMap((metric) => wireCells(entrant, metric))])
      : [[`\`${name}\`, ${place}`, `FAILED: ${failure}`]],
  );
  return `
ioredis ${environment.ioredis}, Redis ${environment.redis}, Node ${environment.node}, ${environment.cores} cores, medians of ${rounds} rounds:

${markdownTable(['', ...headings], lines)}`;
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
