import type { MarkdownRenderer } from 'vitepress';

/** Makes a component of each `mermaid` block, which draws it in the browser; GitHub draws the block itself. */
export function mermaidFence(md: MarkdownRenderer): void {
  const { fence } = md.renderer.rules;
  md.renderer.rules.fence = (tokens, index, ...rest) => {
    const { info = '', content = '' } = tokens[index] ?? {};
    if (info.trim() === 'mermaid') return `<MermaidDiagram source="${encodeURIComponent(content)}" />`;
    return fence?.(tokens, index, ...rest) ?? '';
  };
}
