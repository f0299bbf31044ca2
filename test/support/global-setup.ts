import { acquireRedis, type RedisHandle } from './redis-server.ts';

declare global {
  // The only thing that this module and global-teardown.ts, which Jest loads apart, have in common.
  var sharedTestRedis: RedisHandle | undefined;
}

/** One server for all suites; workers start later and inherit its address through the environment. */
export default async function globalSetup(): Promise<void> {
  const redis = await acquireRedis();
  globalThis.sharedTestRedis = redis;
  process.env['TEST_REDIS_URL'] = redis.url;
  process.stderr.write(`Redis for these tests: ${redis.origin}\n`);
}
