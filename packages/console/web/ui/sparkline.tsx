import type { JSX } from 'preact';

const WIDTH = 72;
const HEIGHT = 20;
const SLOTS = 24;

/** The newest value is on the right; decoration, the figure stands beside it. */
export function Sparkline({ values }: { values: readonly number[] }): JSX.Element {
  const highest = Math.max(...values, 1e-9);
  const step = WIDTH / (SLOTS - 1);
  const points = values.map((value, index) => {
    const x = WIDTH - (values.length - 1 - index) * step;
    return `${x.toFixed(1)},${(HEIGHT - 1.5 - (value / highest) * (HEIGHT - 3)).toFixed(1)}`;
  });
  return (
    <svg class="sparkline" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} width={WIDTH} height={HEIGHT} aria-hidden="true">
      <path class="base" d={`M0 ${HEIGHT - 0.5}H${WIDTH}`} />
      {points.length > 1 && <polyline points={points.join(' ')} />}
    </svg>
  );
}
