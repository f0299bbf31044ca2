import { useData } from 'vitepress';
import { defineComponent, h, onMounted, ref, watch } from 'vue';

let count = 0;

/** A diagram in the colours of the page; until it is drawn, and where scripts are off, its source. */
export const MermaidDiagram = defineComponent({
  props: { source: { type: String, required: true } },
  setup(props) {
    const { isDark } = useData();
    const source = decodeURIComponent(props.source);
    const id = `mermaid-${count++}`;
    const svg = ref('');

    async function draw(): Promise<void> {
      const { default: mermaid } = await import('mermaid');
      mermaid.initialize({
        startOnLoad: false,
        theme: isDark.value ? 'dark' : 'neutral',
        securityLevel: 'strict',
        // A wide diagram scrolls; its text keeps its size.
        flowchart: { useMaxWidth: false },
      });
      svg.value = (await mermaid.render(id, source)).svg;
    }

    onMounted(() => {
      void draw();
      watch(isDark, () => void draw());
    });

    return () =>
      svg.value === ''
        ? h('pre', { class: 'mermaid-source' }, source)
        : h('div', { class: 'mermaid', innerHTML: svg.value });
  },
});
