import { describe, expect, it } from '@jest/globals';

import { RedisStreamsHealthIndicator } from '../../lib/terminus.js';

describe('RedisStreamsHealthIndicator.isHealthy()', () => {
  it.each<[option: string, rule: string, wrong: unknown]>([
    ['maxlag', "did you mean 'maxLag'?", { maxlag: 1 }],
    ['maxLag', 'must be a whole number of at least 0', { maxLag: -1 }],
    ['maxPending', 'must be a whole number of at least 0', { maxPending: '5' }],
    ['maxLagSeconds', 'must be a number from 0', { maxLagSeconds: NaN }],
    ['of', "must be one of 'readiness', 'liveness'", { of: 'startup' }],
    ['timeout', 'must be a whole number of milliseconds from 1', { timeout: 0 }],
    ['maxOldestHandler', 'must be a whole number of at least 1', { of: 'liveness', maxOldestHandler: 0 }],
    ['options', 'must be an object', 5],
  ])(
    'does not reject when %s is refused: it is down, and the message has the rule: %s',
    async (option, rule, wrong) => {
      const indicator = new RedisStreamsHealthIndicator({});
      const { redis } = await indicator.isHealthy('redis', wrong as never);
      expect(redis).toEqual({ status: 'down', message: expect.stringContaining(rule) });
      expect(redis.message).toContain(option);
    },
  );

  it('does not reject where a part cannot be asked at all', async () => {
    const indicator = new RedisStreamsHealthIndicator({ server: {} as never });
    expect((await indicator.isHealthy('redis')).redis).toMatchObject({ status: 'down', message: expect.any(String) });
  });
});
