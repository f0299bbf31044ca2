import type { RedisCluster } from '../../test/support/redis-cluster.js';
import { withCluster } from '../compare.js';
import { METRIC_NAMES, formatOf, times } from '../format.js';
import { measureRow } from '../harness.js';
import { markdownTable } from '../markdown.js';
import type { Options } from '../options.js';
import type { EntrantResult, RowResult } from '../results.js';
import type { Metric, Setting } from '../row.js';
import type { RowName } from '../rows.js';
import { spreadOver } from '../sides.js';
import { LARGEST_VARIABLE } from './growing.js';
import { MOST_STREAMS } from './streams.js';

/** These are measured a second time on a cluster. */
const BY_STREAMS = /^growth-streams-/;

/** Measures the rows of a series, each as soon as the one before is done. */
export async function* measureGrowth(
  setting: Setting,
  { rows, rounds, largest }: Options,
): AsyncGenerator<RowResult, void> {
  if (largest !== undefined) process.env[LARGEST_VARIABLE] = String(largest);
  const measure = (name: RowName, place: Setting): Promise<RowResult> =>
    measureRow(name, place, rounds, ({ targets }) => targets);
  for (const name of rows) yield await measure(name, setting);
  const inCluster = rows.filter((name) => BY_STREAMS.test(name));
  if (inCluster.length === 0) return;
  const measured = await withCluster(async (cluster: RedisCluster) => {
    const spread = await spreadOver(setting, cluster, MOST_STREAMS);
    const results: RowResult[] = [];
    for (const name of inCluster) results.push(await measure(name, spread));
    return results;
  });
  for (const row of measured) yield { ...row, title: `${row.title}, on a cluster of three masters` };
}

/** A table in which each figure has its ratio to the smallest size, in Markdown. */
export function describeGrowth({ name, title, note, metrics, rounds, entrants, failure }: RowResult): string {
  const heading = `\n### ${title}\n\n\`${name}\`. ${note.replaceAll('\n', ' ')} Medians of ${rounds} rounds.\n`;
  if (failure !== undefined) return `${heading}\nFAILED: ${failure}`;
  const figure = ({ measures, ratios }: EntrantResult, metric: Metric): string => {
    const [measured, ratio] = [measures[metric], ratios[metric]];
    return measured && ratio ? `${formatOf(metric)(measured.median)}, ${times(ratio.median)}` : '';
  };
  const lines = entrants.map((entrant) => [
    entrant.name,
    ...metrics.map((metric) => figure(entrant, metric)),
    mebibytes(entrant.heap),
    mebibytes(entrant.peakMemory),
  ]);
  return `${heading}\n${markdownTable(['', ...metrics.map((metric) => METRIC_NAMES[metric]), 'heap', 'RSS'], lines)}`;
}

function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}
