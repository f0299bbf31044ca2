import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';

import { ClientRedisStreams, RedisStreamer, ServerRedisStreams } from '../../../lib/index.js';
import type { RedisStreamsConnection, RedisStreamsLogger } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { freePort } from '../../support/free-port.js';

const bench = new FaultBench();
const SECRET = 'S3CRET';
const SILENT = { error: () => undefined, warn: () => undefined, log: () => undefined };

/** Everything that a log or an error report may make of a value. */
const shown = (value: unknown): string =>
  [
    inspect(value, { depth: 12, showHidden: true, getters: true }),
    JSON.stringify(value),
    value instanceof Error ? `${value.message} ${value.stack} ${JSON.stringify(value.cause)}` : '',
  ].join('\n');

/** Fails to connect; returns the error and what was logged. */
async function failureOf(connection: RedisStreamsConnection, timeout: number): Promise<string> {
  const lines: unknown[] = [];
  const write = (...line: unknown[]): unknown => lines.push(...line);
  const logger: RedisStreamsLogger = { error: write, warn: write, log: write, debug: write };
  const client = new ClientRedisStreams({ connection, timeout, logger });
  const errors: unknown[] = [];
  await client.connect().catch((error: unknown) => errors.push(error));
  await new Promise<void>((resolve) => {
    client.emit('s', 1).subscribe({ error: (error) => resolve(void errors.push(error)), complete: resolve });
  });
  const parts = [...lines, ...errors, client, client.unwrap<RedisStreamer>()].map(shown).join('\n');
  await client.close();
  expect(errors).toHaveLength(2);
  return parts;
}

describe('a password is neither in an error, its cause, its value, nor in the log', () => {
  type Make = (port: number) => RedisStreamsConnection;
  const FORMS: ReadonlyArray<[form: string, make: Make]> = [
    ['a URL', (port) => `redis://user:${SECRET}@127.0.0.1:${port}`],
    ['the query of a URL', (port) => `redis://127.0.0.1:${port}?username=user&password=${SECRET}`],
    ['options', (port) => ({ host: '127.0.0.1', port, username: 'user', password: SECRET })],
    ['a function', (port) => () => new Redis(port, { lazyConnect: true, password: SECRET })],
    ['a function whose client connects', (port) => () => new Redis(port, { password: SECRET })],
    ['the URL of a cluster', (port) => ({ cluster: [`redis://user:${SECRET}@127.0.0.1:${port}`] })],
    [
      'the options of a cluster',
      (port) => ({ cluster: [{ host: '127.0.0.1', port }], options: { redisOptions: { password: SECRET } } }),
    ],
    [
      'a function that returns a Cluster',
      (port) => () => new Cluster([{ host: '127.0.0.1', port }], { redisOptions: { password: SECRET } }),
    ],
    [
      'Sentinels',
      (port) => ({ sentinels: [{ host: '127.0.0.1', port }], name: 'm', password: SECRET, sentinelPassword: SECRET }),
    ],
  ];

  it.each(FORMS)('when the server refuses it: %s', async (_, make) => {
    const server = await bench.server({ args: ['--requirepass', 'right'] });
    expect(await failureOf(make(server.port), 1_500)).not.toContain(SECRET);
  });

  it.each(FORMS)('when nothing listens: %s', async (_, make) => {
    expect(await failureOf(make(await freePort()), 500)).not.toContain(SECRET);
  });

  it('when a function fails with an error that has it', async () => {
    const failures = [
      () => new Redis(`redis://:pa#${SECRET}@host`),
      () => new URL(`redis://:${SECRET}@[`),
      () => {
        throw new Error(`no route to redis://:${SECRET}@host`, { cause: { password: SECRET } });
      },
      () => {
        throw Object.assign(new Error('vault'), { config: { headers: { authorization: SECRET } } });
      },
      () => {
        const thrown: unknown = { password: SECRET };
        throw thrown;
      },
      () => ({ password: SECRET }),
      async () => Promise.reject(new Error(SECRET)),
    ] as Array<() => Redis>;
    for (const make of failures) {
      expect(await failureOf(make, 500)).not.toContain(SECRET);
      // The connection of another role, and every one after a loss, is made by a later call.
      let calls = 0;
      const later = (): Redis => ((calls += 1) === 1 ? new Redis(1, { lazyConnect: true }) : make());
      expect(await failureOf(later, 500)).not.toContain(SECRET);
    }
  });
});

describe('a connection that is refused shows no password, whatever holds it', () => {
  const url = `redis://user:${SECRET}@127.0.0.1:1`;
  class Config {
    readonly password = SECRET;
    readonly host = { password: SECRET };
  }
  class Hidden {
    readonly #password = SECRET;
    get password(): string {
      return this.#password;
    }
  }
  const place = (at: string, value: unknown) => [`${at} with ${kind(value)}`, { [at]: value }] as const;
  const kind = (value: unknown): string =>
    typeof value === 'object' ? (value?.constructor.name ?? 'nothing') : `a ${typeof value}`;
  const VALUES: readonly unknown[] = [
    url,
    [url],
    [[url]],
    { password: SECRET },
    new Map([['password', SECRET]]),
    new Map([[{ password: SECRET }, url]]),
    new Set([url]),
    new Config(),
    new Hidden(),
    new URL(url),
    Object(url) as unknown,
    Buffer.from(url),
    new Proxy({ password: SECRET, hots: url }, {}),
    new Error(url),
    Promise.resolve(url),
    Object.assign(() => new Redis(1, { lazyConnect: true, db: Number.NaN, password: SECRET }), { password: SECRET }),
    { [url]: true },
    { host: url },
    { cluster: [url, { host: url }] },
    { cluster: new Set([url]) },
    { cluster: { password: SECRET } },
    { cluster: [`user:${SECRET}@h:1`] },
    { cluster: [url, `redis://user:other@127.0.0.1:1`] },
    { cluster: ['h:1'], options: { redisOptions: { password: { value: SECRET } } } },
    { cluster: ['h:1'], options: { redisOptions: url } },
    { cluster: ['h:1'], options: new Map([['password', SECRET]]), nodes: [url] },
    { sentinels: [url], name: 'm' },
    { sentinels: [{ host: 's', password: SECRET }], name: 'm' },
    { sentinels: [{ host: 's' }], name: 'm', sentinelPassword: [SECRET] },
    { sentinels: [{ host: 's' }], name: 'm', sentinelUsername: { password: SECRET } },
    { tls: [{ passphrase: SECRET }] },
    { tls: url, password: SECRET },
  ];
  const PLACES = ['host', 'port', 'path', 'db', 'family', 'username', 'password', 'tls', 'keyPrefix', 'connectTimeout'];
  const MORE = ['sentinels', 'name', 'role', 'natMap', 'Connector', 'clientInfoTag', 'noDelay', 'url', 'pasword'];
  const misplaced = [...PLACES, ...MORE].flatMap((at) =>
    [url, { password: SECRET }, new Map([['password', SECRET]]), [url]].map((value) => place(at, value)),
  );

  it.each([...VALUES.map((value) => [kind(value), value] as const), ...misplaced])('%s', async (_, value) => {
    const connection = value as RedisStreamsConnection;
    const errors: unknown[] = [];
    const note = (error: unknown): unknown => errors.push(error);
    for (const Kind of [ClientRedisStreams, ServerRedisStreams]) {
      try {
        await new Kind({ connection, group: 'g' }).close();
      } catch (error) {
        note(error);
      }
    }
    await RedisStreamer.connect(connection, { timeout: 1, logger: SILENT }).then(
      (streamer) => streamer.disconnect(),
      note,
    );
    expect(errors.map(shown).join('\n')).not.toContain(SECRET);
  });

  it.each([
    ['a payload in place of text', { payload: { password: SECRET } }],
    ['a header that is no text', { payload: 'x', options: { headers: { h: { password: SECRET } } } }],
  ])('and %s does not show one either', async (_, { payload, options }: { payload: unknown; options?: object }) => {
    const streamer = new RedisStreamer('redis://127.0.0.1:1', { logger: SILENT });
    const producer = await streamer.createProducer('s');
    const failure: unknown = await producer.send(payload as string, options).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'ERR_INVALID_OPTION', message: expect.stringContaining('got an object') });
    expect(shown(failure)).not.toContain(SECRET);
    await streamer.disconnect();
  });
});

describe('inspection', () => {
  it('of a streamer, client or server shows no password', async () => {
    const connection = `redis://user:${SECRET}@127.0.0.1:1`;
    const streamer = new RedisStreamer(connection);
    const client = new ClientRedisStreams({ connection });
    const server = new ServerRedisStreams({ connection, group: 'g' });
    for (const object of [streamer, client, server]) expect(shown(object)).not.toContain(SECRET);
    await Promise.all([streamer.disconnect(), client.close(), server.close()]);
  });
});
