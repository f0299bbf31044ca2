import type { JSX } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import UPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';

import type { LagSample } from '../../src/api.js';
import { formatCount, formatSeconds, formatShortCount } from '../data/figures.js';
import { useStore } from '../data/store.js';
import { drawnTheme } from '../data/theme.js';
import { formatTime } from '../data/time.js';

const HEIGHT = 220;
/** Seconds that the chart spans at least, so that it does not race while it has few samples. */
const SPAN = 120;
/** Steps of the axes: whole entries, and seconds that are a part of a minute or an hour. */
const COUNTS = Array.from({ length: 13 }, (_, zeros) => [1, 2, 5].map((step) => step * 10 ** zeros)).flat();
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400, 604_800];

/** Entries on the left, seconds on the right, of the last minutes. */
export function LagChart({ history }: { history: readonly LagSample[] }): JSX.Element {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<UPlot | undefined>(undefined);
  const [hovered, setHovered] = useState<number | null>(null);
  const theme = useStore(drawnTheme);

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const created = new UPlot(optionsFor(element, setHovered), dataOf(history), element);
    chart.current = created;
    const observer = new ResizeObserver(() => created.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      created.destroy();
      chart.current = undefined;
    };
  }, [theme]);

  useEffect(() => chart.current?.setData(dataOf(history)), [history]);

  const last = history.at(-1);
  const shown = hovered === null ? last : history[hovered];
  return (
    <section class="panel chart" aria-labelledby="chart-title">
      <header>
        <h2 id="chart-title">Lag</h2>
        <span class="legend">
          <span class="key entries">Entries</span> <b>{formatCount(shown?.lag ?? null)}</b>
          <span class="key seconds">Oldest waits</span> <b>{formatSeconds(shown?.lagSeconds ?? null)}</b>
          <span class="at">{shown ? formatTime(shown.at) : ''}</span>
        </span>
      </header>
      <div
        ref={place}
        class="plot"
        role="img"
        aria-label={`Lag of the last minutes: now ${formatCount(last?.lag ?? null)} entries, ${formatSeconds(last?.lagSeconds ?? null)}`}
      />
    </section>
  );
}

function dataOf(history: readonly LagSample[]): UPlot.AlignedData {
  return [
    history.map(({ at }) => at / 1_000),
    history.map(({ lag }) => lag),
    history.map(({ lagSeconds }) => lagSeconds),
  ];
}

function timesShown(times: ArrayLike<number>): UPlot.Range.MinMax {
  const last = times[times.length - 1] ?? Date.now() / 1_000;
  return [Math.min(times[0] ?? last, last - SPAN), last];
}

function optionsFor(element: HTMLElement, hover: (index: number | null) => void): UPlot.Options {
  const styles = getComputedStyle(element);
  const colour = (name: string): string => styles.getPropertyValue(name).trim();
  const axis = { stroke: colour('--chart-text'), font: `11px ${styles.fontFamily}`, ticks: { show: false } };
  const grid = { stroke: colour('--chart-grid'), width: 1 };
  const upTo =
    (least: number) =>
    (_: UPlot, __: number, highest: number | null): UPlot.Range.MinMax => [0, Math.max(least, (highest ?? 0) * 1.15)];
  const few = ({ data }: UPlot): boolean => data[0].length < 3;
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 0, 0, 0],
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { range: ({ data: [times] }) => timesShown(times) },
      entries: { range: upTo(4) },
      seconds: { range: upTo(4) },
    },
    axes: [
      {
        ...axis,
        grid: { show: false },
        values: (_, ticks) => ticks.map((at) => formatTime(at * 1_000)),
        space: 110,
        size: 28,
      },
      {
        ...axis,
        grid,
        scale: 'entries',
        incrs: COUNTS,
        size: 52,
        values: (_, ticks) => ticks.map((count) => formatShortCount(count)),
      },
      {
        ...axis,
        grid: { show: false },
        scale: 'seconds',
        incrs: SECONDS,
        side: 1,
        size: 64,
        values: (_, ticks) => ticks.map((seconds) => formatSeconds(seconds)),
      },
    ],
    series: [
      {},
      {
        scale: 'entries',
        stroke: colour('--chart-entries'),
        fill: colour('--chart-area'),
        width: 1.5,
        points: { show: few },
      },
      { scale: 'seconds', stroke: colour('--chart-seconds'), width: 1.5, dash: [4, 3], points: { show: few } },
    ],
    hooks: { setCursor: [({ cursor }) => hover(cursor.idx ?? null)] },
  };
}
