import { randomBytes } from 'node:crypto';

/** The server that all suites of this run share; fault tests start their own `RedisServer` instead. */
export function redisUrl(): string {
  const url = process.env['TEST_REDIS_URL'];
  if (!url) throw new Error('no shared Redis: the Jest project of this test lacks the global set-up');
  return url;
}

/** Returns a name for a stream or group that no other test uses. */
export function uniqueName(prefix: string): string {
  return `${prefix}-${randomBytes(6).toString('hex')}`;
}
