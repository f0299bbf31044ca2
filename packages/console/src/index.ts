export { RedisStreamsConsoleModule } from './console.module.js';
export type { HealthSource, RedisStreamsConsoleOptions } from './console.options.js';
export { serveConsole } from './standalone/serve-console.js';
export type { ServeConsoleOptions, ServedConsole } from './standalone/serve-console.js';
