import { describe, expect, it } from '@jest/globals';

import { parseStreamUrl } from '../../lib/engine.js';

describe('a stream URL', () => {
  it.each([
    ['redis://host:6379/a,b', 'redis://host:6379', ['a', 'b']],
    ['rediss://user:p%40ss@host/orders', 'rediss://user:p%40ss@host', ['orders']],
    ['redis://host/orders:eu,,orders:eu,a%2Fb', 'redis://host', ['orders:eu', 'a/b']],
    ['redis://a:1,b:2/orders', { cluster: ['redis://a:1', 'redis://b:2'] }, ['orders']],
    // The numbers of databases are names of streams here, as they are for sea-streamer.
    ['redis://[::1]:6379/0', 'redis://[::1]:6379', ['0']],
  ])('names Redis and the streams: %s', (url, connection, streamKeys) => {
    expect(parseStreamUrl(url)).toEqual({ connection, streamKeys });
  });

  it.each([
    'redis://host:6379',
    'redis://host:6379/',
    'redis://host/a/b',
    'redis://host/a?db=1',
    'http://host/a',
    'host/a',
    'redis:///a',
    'redis://a:1,,b:2/orders',
    'redis://a:1,/orders',
    'redis://host:70000/a',
    'redis://host/%zz',
    7,
  ])('is refused where it names no server or no stream: %s', (url) => {
    expect(() => parseStreamUrl(url as string)).toThrow(expect.objectContaining({ code: 'ERR_INVALID_OPTION' }));
  });

  it('is refused without its password', () => {
    expect(() => parseStreamUrl('redis://user:secret@host/a?b')).toThrow(/^(?!.*secret)/);
  });
});
