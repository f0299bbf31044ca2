import { FONT, MARGIN, WIDTH, color, heading, renderSvg } from '../../../bench/svg-theme.js';
import { SPAN } from './timeline.js';
import type { Timeline } from './timeline.js';

const HEIGHT = 320;
const GRID = { left: 64, right: 150, top: 84, bottom: 40 };
/** The instances of the service that is killed, from the bottom upwards. */
const INSTANCES = [
  { name: 'orders-1', color: color('ours') },
  { name: 'orders-2', color: color('peer') },
] as const;

/** Draws which instance has handled how many orders per second, and when one of them was killed and restarted. */
export function drawRun(timeline: Timeline): string {
  const seconds = Array.from({ length: timeline.length }, (_, column) => String((column * SPAN) / 1_000));
  const label = 'Orders per second, handled by two instances of a service, one of which is killed';
  return renderSvg(HEIGHT, label, {
    title: heading(`npm run sample: ${timeline.summary}`, 'orders handled per second by each instance', MARGIN),
    grid: { ...GRID, width: WIDTH - GRID.left - GRID.right },
    xAxis: {
      type: 'category',
      data: seconds,
      name: 'seconds',
      nameTextStyle: { color: color('small'), fontFamily: FONT },
      axisTick: { show: false },
      axisLine: { lineStyle: { color: color('small') } },
      axisLabel: { color: color('text'), fontFamily: FONT, interval: 1_000 / SPAN - 1 },
    },
    yAxis: {
      type: 'value',
      axisLabel: { color: color('text'), fontFamily: FONT },
      splitLine: { lineStyle: { color: color('peer'), opacity: 0.3 } },
    },
    series: INSTANCES.map(({ name, color: own }, index) => ({
      type: 'bar',
      stack: 'orders',
      barCategoryGap: '10%',
      data: timeline.rates(name),
      itemStyle: { color: own },
      ...(index === 0 && { markLine: markLines(timeline) }),
    })),
    graphic: INSTANCES.flatMap(({ name, color: own }, index) => legend(name, own, index)),
  });
}

function markLines({ marks }: Timeline): object {
  return {
    symbol: 'none',
    lineStyle: { color: color('target'), type: 'dashed', width: 1 },
    label: { color: color('text'), fontFamily: FONT, rotate: 0, position: 'end' },
    data: marks.map(({ at, text }) => ({ xAxis: Math.floor(at / SPAN), label: { formatter: text } })),
  };
}

function legend(name: string, fill: string, index: number): object[] {
  const x = WIDTH - GRID.right + MARGIN;
  const y = HEIGHT - GRID.bottom - MARGIN - (index + 1) * 22;
  return [
    { type: 'rect', shape: { x, y, width: 12, height: 12 }, style: { fill }, silent: true },
    { type: 'text', x: x + 18, y, style: { text: name, fill: color('text'), font: `13px ${FONT}` }, silent: true },
  ];
}
