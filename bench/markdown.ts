import { METRIC_NAMES, describeSpread, describeTarget, formatOf, targetFormat, times } from './format.js';
import type { Check, EntrantResult, Results, RowResult } from './results.js';
import type { Metric } from './row.js';

/** The page with the results of a run. @param chart path of the picture, relative to the page */
export function describeResults(results: Results, chart: string): string {
  const { environment, takenAt, rows, scale } = results;
  const measured = rows.filter(({ failure }) => failure === undefined);
  if (scale !== 1) throw new Error('A quick run says nothing about speed; run the suite without --quick');
  return `# Benchmarks

_Use this when_ you compare this package with the alternatives, or check a change of its speed.

_You get_ the figures of one run, the target of each benchmark, and the commands that repeat it.

\`npm run bench:chart\` writes this page from [benchmarks.json](benchmarks.json); do not edit it.

The run of ${takenAt.slice(0, 10)} had ${environment.cores} cores, Redis ${environment.redis}, Node ${environment.node}, ioredis
${environment.ioredis}, Nest ${environment.nest} and BullMQ ${environment.bullmq}, with client and server on one machine. The entrants of a benchmark
take turns, each in a process of its own. A figure is the median of their rounds, and a multiple of the baseline if
the benchmark has one, because messages per second depend more on the machine.

![Each benchmark as multiples of its baseline](${chart})

## Targets

${markdownTable(['benchmark', 'of what', 'target', 'measured', 'lowest … highest', ''], measured.flatMap(targetLines))}

${measured.map(describeRow).join('\n\n')}

## Run it yourself

\`\`\`sh
npm run bench                                  # the whole table, in a quarter of an hour
npm run bench -- send nest-latency             # some of its rows
npm run bench -- --quick                       # a twentieth of the work, to see that everything runs
npm run bench -- --out docs/benchmarks.json    # where the results go; default bench/results/latest.json
npm run bench:chart                            # this page and its picture, from docs/benchmarks.json
npm run bench:peers                            # beside clients in C and Rust and Nest's transport, see performance.md
npm run bench:peers -- c-consume --rounds 15   # some of these rows
\`\`\`

The command fails when a target is missed. Other work on the machine distorts the figures. Redis is found as the tests
find it; see [CONTRIBUTING.md](../CONTRIBUTING.md).

Comparisons run the same contenders on two sides, round by round in turn, and print both figures, their ratio and the CPU
time of the client for each message. They take names of rows, \`--rounds\` (default 3), \`--quick\` and \`--out\`, too.

\`\`\`sh
npm run bench -- --against ../before           # this library and that of another checkout, built with npx nest build
npm run bench -- --cluster --streams 12        # three masters and one server, with the same 12 streams
npm run bench -- --wire-table                  # with the library's own wire and without, on one server and in Cluster
\`\`\`

\`--against\` fails when a row is worse beyond noise: the medians of a figure differ by more than 5 %, the rounds of the two
sides do not overlap, and a second run of the row shows the same. \`--cluster\` fails when the client handles less than
0.9 times as many messages with the same CPU time.
`;
}

/** Whether a picture of the row's latencies can be drawn. */
export function hasLatency({ entrants }: RowResult): boolean {
  return entrants.some(({ measures }) => measures.p50 !== undefined);
}

/** Path of that picture, relative to the page. */
export function latencyChart({ name }: RowResult): string {
  return `benchmarks-${name}.svg`;
}

function targetLines(row: RowResult): string[][] {
  return row.checks.map((check: Check) => {
    const { metric, entrant, measured } = check;
    const format = targetFormat(metric, row.baseline);
    return [
      `\`${row.name}\``,
      `${METRIC_NAMES[metric]}, ${entrant}`,
      describeTarget(check, format),
      format(measured.median),
      describeSpread(measured, format),
      check.hasPassed ? 'met' : 'missed',
    ];
  });
}

function describeRow(row: RowResult): string {
  const { name, title, note, metrics, baseline, rounds, entrants } = row;
  const hasCpu = baseline !== undefined;
  const columns = metrics.flatMap((metric) => [METRIC_NAMES[metric], 'lowest … highest']);
  const lines = entrants.map((entrant) => [
    entrant.name,
    ...metrics.flatMap((metric) => figures(entrant, metric)),
    ...(hasCpu ? [figures(entrant, 'cpu')[0] ?? ''] : []),
    `${(entrant.peakMemory / 2 ** 20).toFixed(0)} MiB`,
  ]);
  const headings = ['', ...columns, ...(hasCpu ? [METRIC_NAMES.cpu] : []), 'peak RSS'];
  const count = rounds === 1 ? 'One round.' : `${rounds} rounds.`;
  const picture = hasLatency(row) ? `\n\n![Latency by percentile](${latencyChart(row)})` : '';
  return `## ${title}\n\n\`npm run bench -- ${name}\`. ${note.replaceAll('\n', ' ')} ${count}\n\n${markdownTable(headings, lines)}${picture}`;
}

/** Multiples of the baseline if there is one, otherwise absolute figures. */
function figures({ measures, ratios }: EntrantResult, metric: Metric): string[] {
  const [summary, format] = ratios[metric] ? [ratios[metric], times] : [measures[metric], formatOf(metric)];
  return summary ? [format(summary.median), describeSpread(summary, format)] : ['', ''];
}

export function markdownTable(headings: readonly string[], lines: readonly string[][]): string {
  const rule = headings.map((_, column) => (column === 0 ? '---' : '--:'));
  return [headings, rule, ...lines].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
