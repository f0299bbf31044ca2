// Loaded before the program, as in an application that instruments itself.
const { registerInstrumentations } = require('@opentelemetry/instrumentation');
const { IORedisInstrumentation } = require('@opentelemetry/instrumentation-ioredis');
const { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } = require('@opentelemetry/sdk-trace-node');

const exporter = new InMemorySpanExporter();
new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] }).register();
registerInstrumentations({ instrumentations: [new IORedisInstrumentation({ requireParentSpan: false })] });

process.on('exit', () => {
  const names = new Set(exporter.getFinishedSpans().map(({ name }) => name));
  console.log(`spans: ${[...names].join(', ')}`);
});
