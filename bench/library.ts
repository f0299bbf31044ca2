import type * as Library from '../lib/index.js';

/** Environment variable with the URL of the entry point to load. Without it, contenders use the library of this checkout. */
export const LIBRARY_VARIABLE = 'BENCH_LIBRARY';

const url = process.env[LIBRARY_VARIABLE] ?? new URL('../lib/index.js', import.meta.url).href;

// Contenders import values of the library from here only, so that another commit's library fits, whatever its folders are.
export const { ClientRedisStreams, RedisStreamer, RoundRobinSharder, ServerRedisStreams } = (await import(
  url
)) as typeof Library;
export type RedisStreamer = Library.RedisStreamer;
