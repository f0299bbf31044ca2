import { BarChart, LineChart, ScatterChart } from 'echarts/charts';
import { GraphicComponent, GridComponent, MarkLineComponent, TitleComponent } from 'echarts/components';
import { init, use } from 'echarts/core';
import type { EChartsCoreOption } from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';

use([
  BarChart,
  LineChart,
  ScatterChart,
  GraphicComponent,
  GridComponent,
  MarkLineComponent,
  TitleComponent,
  SVGRenderer,
]);

export const FONT = 'system-ui, sans-serif';
export const WIDTH = 900;
export const MARGIN = 16;

/** For light pages; on dark ones each becomes the second one. */
const COLORS = {
  text: ['#1f2328', '#e6edf3'],
  small: ['#59636e', '#9198a1'],
  ours: ['#2563eb', '#60a5fa'],
  peer: ['#9aa4b2', '#7d8590'],
  target: ['#d1242f', '#ff7b72'],
} as const;

export function color(name: keyof typeof COLORS): string {
  return COLORS[name][0];
}

/** The reader's system chooses: attributes that the renderer wrote give way to rules of a style sheet. */
const STYLE = `<style>@media (prefers-color-scheme: dark) {
${Object.values(COLORS)
  .map(([light, dark]) => `[fill="${light}"] { fill: ${dark}; } [stroke="${light}"] { stroke: ${dark}; }`)
  .join('\n')}
}</style>`;

/** Renders a chart as SVG. @param label for those who do not see it */
export function renderSvg(height: number, label: string, option: EChartsCoreOption): string {
  const chart = init(null, null, { renderer: 'svg', ssr: true, width: WIDTH, height });
  chart.setOption({ animation: false, textStyle: { fontFamily: FONT }, ...option });
  const svg = chart.renderToSVGString();
  chart.dispose();
  return `${svg.replace(/<svg ([^>]*)>/, `<svg $1 role="img" aria-label="${label}">\n${STYLE}`)}\n`;
}

/** A heading, and what it measures. */
export function heading(text: string, subtext: string, top: number): object {
  return {
    text,
    subtext,
    left: MARGIN,
    top,
    padding: 0,
    itemGap: 4,
    textStyle: { color: color('text'), fontSize: 13, fontWeight: 600, fontFamily: FONT },
    subtextStyle: { color: color('small'), fontSize: 12, fontFamily: FONT },
  };
}
