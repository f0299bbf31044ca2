import { EventEmitter } from 'node:events';
import { inspect } from 'node:util';

import { afterEach, describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';

import { InvalidOptionError } from '../../lib/errors.js';
import { checkGivenClient, connectionTarget } from '../../lib/redis/connection/connection-target.js';
import type { RedisStreamsConnection } from '../../lib/redis/connection/connection-target.js';

/** A connection of a wrong type, as an untyped program may pass it. */
const target = (connection: unknown) => connectionTarget(connection as RedisStreamsConnection);

function refusalOf(act: () => unknown): InvalidOptionError {
  try {
    act();
  } catch (error) {
    if (error instanceof InvalidOptionError) return error;
    throw error;
  }
  throw new Error('it was not refused');
}

const urlBefore = process.env['REDIS_URL'];
const clients: Array<Redis | Cluster> = [];
afterEach(() => {
  if (urlBefore === undefined) delete process.env['REDIS_URL'];
  else process.env['REDIS_URL'] = urlBefore;
  for (const client of clients.splice(0)) client.disconnect();
});

describe('a URL', () => {
  it.each<[url: string, options: object, address: string]>([
    ['redis://h', { host: 'h' }, 'h:6379'],
    ['redis://h:6380/0', { host: 'h', port: 6380, db: 0 }, 'h:6380'],
    ['redis://h/3', { host: 'h', db: 3 }, 'h:6379'],
    ['REDISS://h:6380', { host: 'h', port: 6380, tls: {} }, 'h:6380'],
    [' redis://h:6379\n', { host: 'h', port: 6379 }, 'h:6379'],
    ['redis://', {}, 'localhost:6379'],
    ['redis://[::1]:6380', { host: '::1', port: 6380 }, '[::1]:6380'],
    ['redis://u:p%40%2F%23@h', { host: 'h', username: 'u', password: 'p@/#' }, 'h:6379'],
    ['redis://:p@s[s@h', { host: 'h', password: 'p@s[s' }, 'h:6379'],
    ['redis://h?family=4&db=2', { host: 'h', family: 4, db: 2 }, 'h:6379'],
    ['redis://h?username=u&password=p%40', { host: 'h', username: 'u', password: 'p@' }, 'h:6379'],
    ['redis://h?tls=true', { host: 'h', tls: {} }, 'h:6379'],
    ['redis://h?tls=false', { host: 'h' }, 'h:6379'],
    ['redis://h?connectTimeout=5000', { host: 'h', connectTimeout: 5000 }, 'h:6379'],
  ])('%j is decided here, each part in its type', (url, options, address) => {
    expect(target(url)).toEqual({ kind: 'server', address, keyPrefix: '', options });
  });

  it('honours keyPrefix in its query, as an object of options does', () => {
    expect(target('redis://h?keyPrefix=app:')).toMatchObject({ keyPrefix: 'app:', options: { host: 'h' } });
    expect(target({ host: 'h', keyPrefix: 'app:' })).toMatchObject({ keyPrefix: 'app:', options: { host: 'h' } });
  });

  it.each([
    [
      'redis://h:6379/mykey',
      'connection.db',
      'parseStreamUrl() takes a URL that names streams in its place; got "mykey"',
    ],
    ['redis://h:6379/-1', 'connection.db', 'got "-1"'],
    ['redis://h:6379/1/2', 'connection.db', 'got "1/2"'],
    ['redis://h:0', 'connection.port', 'from 1 to 65535'],
    ['redis://h?db=abc', 'connection.db', 'got "abc"'],
    ['redis://h?db=', 'connection.db', 'got ""'],
    ['redis://h/1?db=2', 'connection.db', 'given twice'],
    ['redis://h?db=1&db=2', 'connection.db', 'given twice'],
    ['redis://h?family=5', 'connection.family', 'must be 4, 6'],
    ['redis://h?tls=yes', 'connection.tls', "must be one of 'true', 'false'"],
    ['rediss://h?tls=false', 'connection.tls', 'cannot be false'],
    ['redis://h?socketTimeout=3000', 'connection.socketTimeout', 'a URL can set db, family'],
    ['redis://h?commandTimeout=3000', 'connection.commandTimeout', 'a URL can set db, family'],
    ['redis://h?famly=4', 'connection.famly', "did you mean 'family'?"],
    ['localhost:6379', 'connection', 'write redis://localhost:6379'],
    ['redis.internal', 'connection', 'write redis://redis.internal'],
    ['/tmp/redis.sock', 'connection', 'for a Unix socket write { path }'],
    ['http://h', 'connection', 'begins with redis:// or rediss://'],
    ['valkey://h', 'connection', 'begins with redis:// or rediss://'],
    ['redis://h:99999', 'connection', 'must be a valid URL'],
    ['', 'connection', 'begins with redis:// or rediss://'],
  ])('%j is refused, by option and rule', (url, option, rule) => {
    expect(refusalOf(() => target(url))).toMatchObject({ option, message: expect.stringContaining(rule) });
  });

  it('of the environment is refused under the name of its variable', () => {
    process.env['REDIS_URL'] = 'redis://h/db';
    expect(refusalOf(() => target(undefined)).option).toBe('REDIS_URL.db');
  });
});

describe('an object of options', () => {
  it.each<[options: object, decided: object]>([
    [
      { port: '6380', db: '3' },
      { port: 6380, db: 3 },
    ],
    [{ password: 12345 }, { password: '12345' }],
    [{ username: null, password: undefined, tls: false }, {}],
    [{ tls: 'RedisCloudFixed' }, { tls: 'RedisCloudFixed' }],
    [{ tls: true }, { tls: {} }],
    // Decided by this package.
    [{ host: 'h', commandTimeout: 1, blockingTimeout: 1, stringNumbers: true, replyMapping: 'resp3' }, { host: 'h' }],
    [{ maxRetriesPerRequest: 3, enableOfflineQueue: false, lazyConnect: false, readOnly: true, protocol: 3 }, {}],
  ])('%j is taken as %j', (options, decided) => {
    expect(target(options)).toMatchObject({ kind: 'server', options: decided });
    expect(Object.keys((target(options) as { options: object }).options)).toEqual(Object.keys(decided));
  });

  it.each<[options: unknown, option: string, rule: string]>([
    [{ db: Number.NaN }, 'connection.db', 'got NaN'],
    [{ db: 'abc' }, 'connection.db', 'got "abc"'],
    [{ db: -1 }, 'connection.db', 'from 0'],
    [{ db: 1.5 }, 'connection.db', 'whole number'],
    [{ port: Number.NaN }, 'connection.port', 'got NaN'],
    [{ port: 0 }, 'connection.port', 'from 1 to 65535'],
    [{ port: '' }, 'connection.port', 'got ""'],
    [{ host: '' }, 'connection.host', 'name of a host'],
    [{ host: 'redis://h' }, 'connection.host', 'name of a host alone'],
    [{ host: 'h:6380' }, 'connection.host', "write { host: 'h', port: 6380 }"],
    [{ sentinels: [{ host: 's:1' }], name: 'm' }, 'connection.sentinels[0].host', "write { host: 's', port: 1 }"],
    [{ tls: 'true' }, 'connection.tls', 'or true'],
    [{ connectTimeout: 2 ** 31 }, 'connection.connectTimeout', 'from 0 to 2147483647'],
    [{ keepAlive: 2 ** 31 }, 'connection.keepAlive', 'from 0 to 2147483647'],
    [{ Connector: {} }, 'connection.Connector', 'must be a function'],
    [{ path: 'redis://h' }, 'connection.path', 'must be the path of a Unix socket'],
    [{ path: '' }, 'connection.path', 'must be a non-empty string'],
    [{ path: '/s', host: 'h' }, 'connection.path', 'cannot be combined with host'],
    [{ sentinels: [] }, 'connection.sentinels', 'at least one'],
    [{ sentinels: [{ host: 's' }] }, 'connection.name', 'must name the master'],
    [{ sentinels: [{ hots: 's' }], name: 'm' }, 'connection.sentinels[0].hots', "did you mean 'host'?"],
    [{ sentinels: [{ port: Number.NaN }], name: 'm' }, 'connection.sentinels[0].port', 'got NaN'],
    [{ sentinels: [{ host: 's' }], name: 'm', role: 'slave' }, 'connection.role', "must be 'master'"],
    [{ name: 'm' }, 'connection.name', 'needs sentinels'],
    [{ hots: 'h' }, 'connection.hots', "did you mean 'host'?"],
    [{ pasword: 'h' }, 'connection.pasword', "did you mean 'password'?"],
    [{ user: 'u' }, 'connection.user', "did you mean 'username'?"],
    [{ retryAttempts: 5 }, 'connection.retryAttempts', 'by a function that returns a client'],
    [{ url: 'redis://h' }, 'connection.url', "write the URL itself: connection: 'redis://host:6379'"],
    [{ nodes: [] }, 'connection.nodes', 'write { cluster'],
    [7, 'connection', 'or a function that returns a client; got 7'],
    [null, 'connection', 'or a function that returns a client; got null'],
    ['redis://::1:6379', 'connection', 'an IPv6 address stands in brackets'],
    ['redis://h:99999', 'connection', 'a port is at most 65535'],
    ['redis://user:a@b:99999', 'connection', 'must be percent-encoded'],
    ['unix:///tmp/redis.sock', 'connection', 'for a Unix socket write { path }'],
    ['redis+socket:///tmp/redis.sock', 'connection', 'for a Unix socket write { path }'],
    [['redis://h'], 'connection', 'got an array'],
    [new URL('redis://:secret@h'), 'connection', 'write url.href'],
    [new Map([['host', 'h']]), 'connection', 'got an object'],
    [/redis/, 'connection', 'got an object'],
  ])('%j is refused, by option and rule', (options, option, rule) => {
    expect(refusalOf(() => target(options))).toMatchObject({ option, message: expect.stringContaining(rule) });
  });

  it('is no client: one in place of a function that returns clients is refused with what to write', () => {
    const client = new Redis({ lazyConnect: true, password: 'secret' });
    const cluster = new Cluster([{ host: 'h', port: 1 }], { lazyConnect: true });
    clients.push(client, cluster);
    const foreign = Object.assign(new EventEmitter(), { connect: () => undefined });
    for (const given of [client, cluster, foreign]) {
      expect(refusalOf(() => target(given))).toMatchObject({
        option: 'connection',
        value: undefined,
        message: expect.stringMatching(/must be a function that returns a new client.*\(\) => client\.duplicate\(\)/),
      });
    }
  });
});

describe('a cluster', () => {
  it('may be named by URLs, by texts and by objects, and what a URL says of access holds for all nodes', () => {
    const cluster = ['rediss://u:p%40@a:7000', 'b:7001', '[::1]:7002', { host: 'c', port: '7003' }];
    expect(target({ cluster })).toEqual({
      kind: 'cluster',
      address: 'cluster a:7000, b:7001, [::1]:7002, c:7003',
      keyPrefix: '',
      nodes: [
        { host: 'a', port: 7000 },
        { host: 'b', port: 7001 },
        { host: '::1', port: 7002 },
        { host: 'c', port: 7003 },
      ],
      options: { redisOptions: { username: 'u', password: 'p@', tls: {} } },
    });
  });

  it.each([{ keyPrefix: 'app:' }, { redisOptions: { keyPrefix: 'app:' } }])(
    'honours keyPrefix of %j, and takes it out of the options',
    (options) => {
      expect(target({ cluster: ['a:1'], options })).toMatchObject({ keyPrefix: 'app:', options: { redisOptions: {} } });
      expect(inspect((target({ cluster: ['a:1'], options }) as { options: object }).options)).not.toContain('app:');
    },
  );

  it('takes access of its options before that of its nodes', () => {
    const options = { redisOptions: { password: 'b', commandTimeout: 5, stringNumbers: true }, scaleReads: 'slave' };
    expect(target({ cluster: ['redis://:a@h:1'], options })).toMatchObject({
      options: { redisOptions: { password: 'b' } },
    });
    expect(Object.keys((target({ cluster: ['h:1'], options }) as { options: object }).options)).toEqual([
      'redisOptions',
    ]);
  });

  it.each<[connection: object, option: string, rule: string]>([
    [{ cluster: [] }, 'connection.cluster', 'at least one node'],
    [{ cluster: undefined }, 'connection.cluster', 'at least one node'],
    [{ cluster: 'a:7000' }, 'connection.cluster', "['host:6379', …]; got a string"],
    [{ cluster: ['h'] }, 'connection.cluster[0]', "must be 'host:port', a URL, or { host, port }"],
    [{ cluster: ['h:1', 7] }, 'connection.cluster[1]', 'must be an object; got a number'],
    [{ cluster: [{ host: 'h', port: Number.NaN }] }, 'connection.cluster[0].port', 'got NaN'],
    [{ cluster: ['redis://h:1/2'] }, 'connection.cluster[0].db', 'must be 0'],
    [{ cluster: ['redis://:a@h:1', 'redis://:b@h:2'] }, 'connection.cluster', 'must have the same password'],
    [{ cluster: ['h:1'], redisOptions: {} }, 'connection.redisOptions', "did you mean 'options'?"],
    [{ cluster: ['h:1'], options: { natmap: {} } }, 'connection.options.natmap', "did you mean 'natMap'?"],
    [{ cluster: ['h:1'], options: { redisOptions: { db: 2 } } }, 'connection.options.redisOptions.db', 'must be 0'],
    [
      { cluster: ['h:1'], options: { redisOptions: { host: 'h' } } },
      'connection.options.redisOptions.host',
      'one server',
    ],
    [
      { cluster: ['h:1'], options: { redisOptions: { pass: 'h' } } },
      'connection.options.redisOptions.pass',
      'password',
    ],
    [
      { cluster: ['h:1'], options: { slotsRefreshInterval: 2 ** 31 } },
      'connection.options.slotsRefreshInterval',
      '2147483647',
    ],
  ])('%j is refused, by option and rule', (connection, option, rule) => {
    expect(refusalOf(() => target(connection))).toMatchObject({ option, message: expect.stringContaining(rule) });
  });
});

describe('a client that a function returned', () => {
  const redis = (options: object): Redis => {
    const client = new Redis({ lazyConnect: true, ...options });
    clients.push(client);
    return client;
  };
  const cluster = (options: object): Cluster => {
    const client = new Cluster([{ host: 'h', port: 1 }], { lazyConnect: true, ...options });
    clients.push(client);
    return client;
  };
  const closed = (): Redis => {
    const client = new Redis({ lazyConnect: true });
    client.disconnect();
    return client;
  };

  it.each<[what: string, make: () => unknown, option: string, rule: string]>([
    ['with a database that is no number', () => redis({ db: Number.NaN }), 'connection().db', 'got NaN'],
    ['with the name of a database', () => redis({ db: 'abc' }), 'connection().db', 'got NaN'],
    ['with a port that is no number', () => redis({ port: Number.NaN }), 'connection().port', 'got NaN'],
    ['with a URL as host', () => redis({ host: 'redis://h' }), 'connection().host', 'name of a host alone'],
    [
      'of a replica',
      () => redis({ sentinels: [{ host: 's' }], name: 'm', role: 'slave' }),
      'connection().role',
      "must be 'master'",
    ],
    ['with a key prefix', () => redis({ keyPrefix: 'app:' }), 'connection', 'without keyPrefix'],
    ['that monitors', () => redis({ monitor: true }), 'connection', 'nothing else uses; got "a monitor"'],
    [
      'that subscribes',
      () => Object.assign(redis({}), { condition: { subscriber: true, protocol: 2 } }),
      'connection',
      'nothing else uses; got "a subscriber"',
    ],
    [
      'with numbers as text, once its parser is made',
      () => Object.assign(redis({ stringNumbers: true }), { status: 'connect' }),
      'connection',
      'without stringNumbers, or one that has not connected yet',
    ],
    ['that is closed', closed, 'connection', 'not closed'],
    ['of a cluster, with a database', () => cluster({ redisOptions: { db: 1 } }), 'connection().db', 'must be 0'],
    [
      'of a cluster, with a key prefix',
      () => cluster({ redisOptions: { keyPrefix: 'a:' } }),
      'connection',
      'keyPrefix',
    ],
    [
      'of a cluster, with numbers as text',
      () => cluster({ redisOptions: { stringNumbers: true } }),
      'connection',
      'without stringNumbers',
    ],
    ['as a promise', async () => 1, 'connection', 'cannot be async'],
    [
      'of another package',
      () => Object.assign(new EventEmitter(), { sendCommand: () => 1 }),
      'connection',
      'an ioredis client',
    ],
    ['as options', () => ({ host: 'h', password: 'secret' }), 'connection', 'must return an ioredis client'],
    ['as nothing', () => undefined, 'connection', 'must return an ioredis client'],
  ])('%s is refused, by option and rule', (_, make, option, rule) => {
    expect(refusalOf(() => checkGivenClient(make()))).toMatchObject({
      option,
      message: expect.stringContaining(rule),
    });
  });
});

describe('a password', () => {
  it.each<[what: string, make: () => unknown]>([
    ['a cluster that is text', () => target({ cluster: 'redis://:S3CRET@h' })],
    ['a function that returns a URL', () => checkGivenClient('redis://:S3CRET@h')],
    ['a URL without its scheme', () => target('//:S3CRET@h:6379')],
    ['a URL object', () => target(new URL('redis://:S3CRET@h'))],
  ])('is not in the error for %s', (_, make) => {
    const { message, value } = refusalOf(make);
    expect(`${message} ${String(value)}`).not.toContain('S3CRET');
  });

  const secrets = [
    'redis://:pa#S3CRET@h:1',
    'redis://:pa/S3CRET@h:1',
    'redis://:pa?S3CRET@h:1',
    'redis://:pa%S3CRET@h:1',
  ];
  it.each<[what: string, connection: unknown]>([
    ...[...secrets, 'redis://:S3CRET%@h:1', 'redis://u:12#34-S3CRET@h', 'redis://u:1/2?S3CRET@h'].map(
      (url): [string, string] => [url, url],
    ),
    ['a URL without its scheme', 'user:S3CRET@h:6379'],
    ['a URL of another scheme', 'valkey://:S3CRET@h:6379'],
    ['a URL as host', { host: 'redis://:S3CRET@h:6379' }],
    ['a URL as option', { url: 'redis://:S3CRET@h:6379' }],
    ['a URL in a list', ['redis://:S3CRET@h:6379']],
    ['a password under another name', { host: 'h', pasword: 'S3CRET' }],
    ['a password that is no text', { password: { value: 'S3CRET' } }],
    ['a password beside a mistake', { host: 'h', port: Number.NaN, password: 'S3CRET' }],
    ['TLS with a passphrase beside a mistake', { tls: ['S3CRET'] }],
    ['a node of a cluster', { cluster: ['redis://:pa#S3CRET@h:1'] }],
    ['a node of a cluster without scheme', { cluster: ['u:S3CRET@h:1'] }],
    ['a node of a cluster with a mistake', { cluster: [{ host: 'h', port: 0, password: 'S3CRET' }] }],
    ['nodes that differ', { cluster: ['redis://:S3CRET1@h:1', 'redis://:S3CRET2@h:2'] }],
    ['options of a cluster', { cluster: ['h:1'], options: { redisOptions: { pw: 'S3CRET' } } }],
  ])('is in no part of the error: %s', (_, connection) => {
    const error = refusalOf(() => target(connection));
    const shown = [error.message, error.stack, inspect(error, { depth: 9, showHidden: true }), JSON.stringify(error)];
    expect(shown.join('\n')).not.toContain('S3CRET');
  });

  it('is not in the address that messages name', () => {
    expect(target({ cluster: ['redis://u:S3CRET@a:1', 'b:2'] })).toMatchObject({ address: 'cluster a:1, b:2' });
    expect(target('redis://u:S3CRET@a:1')).toMatchObject({ address: 'a:1' });
  });
});
