import { register } from 'node:module';

// With the hook that shows instrumentation what ES modules import.
register('@opentelemetry/instrumentation/hook.mjs', import.meta.url);
await import('./otel.cjs');
