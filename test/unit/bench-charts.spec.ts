import { describe, expect, it } from '@jest/globals';

import { drawLatency } from '../../bench/latency-svg.js';
import { percentilesOf } from '../../bench/statistics.js';
import { drawChart } from '../../bench/svg.js';

const summary = (median: number) => ({ median, lowest: median, highest: median });
const entrant = (name: string, median: number) => ({
  name,
  isPeer: false,
  measures: {},
  ratios: { rate: summary(median) },
  peakMemory: 0,
  heap: 0,
});

describe('the charts of the benchmarks', () => {
  it('have a bar with its figure for each entrant but the baseline, and colours for dark pages', () => {
    const entrants = [entrant('by hand', 1), entrant('ours', 2.5)];
    const svg = drawChart({
      rows: [{ title: 'Sending', metrics: ['rate'], baseline: 'by hand', checks: [], entrants }],
    });
    expect(svg).toContain('>Sending<');
    expect(svg).toContain('>2.50×<');
    expect(svg).not.toContain('>1.00×<');
    expect(svg).toContain('prefers-color-scheme: dark');
  });

  it('draw latencies by the percentiles that the results have', () => {
    const latencies = Array.from({ length: 1_000 }, (_, index) => index + 1);
    const latency = percentilesOf(latencies);
    expect(latency.find(({ percentile }) => percentile === 90)?.milliseconds).toBeCloseTo(900, 0);

    const recorded = { ...entrant('ours', 1), latency };
    expect(drawLatency({ title: 'Handling', baseline: undefined, entrants: [recorded] })).toContain('>p99.9<');

    const older = { ...entrant('ours', 1), measures: { p50: summary(1), p99: summary(4) } };
    const svg = drawLatency({ title: 'Handling', baseline: undefined, entrants: [older] });
    expect(svg).toContain('>p99<');
    expect(svg).not.toContain('>p99.9<');
  });
});
