import { describe, expect, it } from '@jest/globals';
import { Registry } from 'prom-client';

import { RedisStreamer } from '../../lib/engine.js';
import { ClientRedisStreams, ServerRedisStreams } from '../../lib/index.js';
import { prometheus } from '../../lib/prometheus.js';
import { resolveLogger } from '../../lib/shared/logger.js';
import { TestServerRedisStreams } from '../../lib/testing.js';

const OWNERS: Array<[string, (logger: never) => unknown]> = [
  ['a streamer', (logger) => new RedisStreamer(undefined, { logger })],
  ['a client', (logger) => new ClientRedisStreams({ logger })],
  ['a server', (logger) => new ServerRedisStreams({ group: 'g', logger })],
  ['a server for tests', (logger) => new TestServerRedisStreams({ logger })],
  ['prometheus()', (logger) => prometheus({ registry: new Registry(), logger })],
];

describe('the option logger', () => {
  describe.each(OWNERS)('of %s', (_, make) => {
    it.each([null, true, 0, '', 'console', {}, { error: () => undefined }])('refuses %j', (logger) => {
      expect(() => make(logger as never)).toThrow(
        expect.objectContaining({
          code: 'ERR_INVALID_OPTION',
          option: 'logger',
          message: expect.stringContaining('must be an object with the methods error, warn and log, or false'),
        }),
      );
    });

    it.each([false, console, undefined])('accepts %p', (logger) => {
      expect(() => make(logger as never)).not.toThrow();
    });
  });

  it('is the default only where it is undefined', () => {
    const lines: string[] = [];
    const add = (line: string): void => void lines.push(line);
    const toDefault = () => ({ error: add, warn: add, log: add });
    resolveLogger(undefined, toDefault).warn('kept');
    resolveLogger(false, toDefault).warn('dropped');
    resolveLogger(false, toDefault).debug('dropped');
    expect(lines).toEqual(['kept']);
  });
});
