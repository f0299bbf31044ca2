import { acquireRedis, type RedisHandle } from './redis-server.ts';

declare global {
  // Jest loads this module and global-teardown.ts separately; they share only globals.
  var sharedTestRedis: RedisHandle | undefined;
}

/** Acquires one server for all suites; workers start later and inherit its address through the environment. */
export default async function globalSetup(): Promise<void> {
  // A run of several projects has several set-ups, and a server that no teardown knows would keep the run from ending.
  if (globalThis.sharedTestRedis) return;
  const redis = await acquireRedis();
  globalThis.sharedTestRedis = redis;
  process.env['TEST_REDIS_URL'] = redis.url;
  process.stderr.write(`Redis for these tests: ${redis.origin}\n`);
}
