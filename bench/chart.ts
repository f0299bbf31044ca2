import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { format, resolveConfig } from 'prettier';

import { describeResults, hasLatency, latencyChart } from './markdown.js';
import { drawLatency } from './latency-svg.js';
import { readResults } from './results.js';
import { drawChart } from './svg.js';

const CHART = 'benchmarks.svg';
const PAGE = 'benchmarks.md';

// Generates the page of the documentation from the results of a run: `chart.js [results [folder]]`.
const [from = 'docs/benchmarks.json', folder = 'docs'] = process.argv.slice(2);
const results = readResults(from);
const page = await format(describeResults(results, CHART), {
  ...(await resolveConfig(PAGE)),
  parser: 'markdown',
});
writeFileSync(join(folder, CHART), drawChart(results));
for (const row of results.rows.filter(hasLatency)) {
  writeFileSync(join(folder, latencyChart(row)), drawLatency(row));
}
writeFileSync(join(folder, PAGE), page);
console.log(`${join(folder, PAGE)} and ${CHART} show the run of ${results.takenAt}`);
