import { afterAll, describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import type { RedisOptions } from 'ioredis';

import { ClientRedisStreams, RedisStreamer, ServerRedisStreams } from '../../../lib/index.js';
import type { RedisStreamsConnection } from '../../../lib/index.js';
import { useChildProgram } from '../../support/child-program.js';
import type { ConsoleInput, ConsoleLine } from '../../support/console-child.js';
import { FaultBench } from '../../support/fault-bench.js';
import { freePort } from '../../support/free-port.js';
import { makeCertificate } from '../../support/tls-certificate.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const certificate = makeCertificate();
afterAll(() => certificate.remove());
/** How often a connection is lost. */
const LOSSES = 3;
const logger = { error: () => undefined, warn: () => undefined, log: () => undefined };

/** A master, and Sentinels that watch it and do not know each other, each with its own access. */
interface Access {
  readonly password?: string;
  readonly tls?: 'any client' | 'known clients';
}

interface Sentinels {
  readonly options: RedisOptions & { sentinels: Array<{ host: string; port: number }> };
  readonly servers: ReadonlyArray<Awaited<ReturnType<FaultBench['server']>>>;
  readonly master: Awaited<ReturnType<FaultBench['server']>>;
}

async function sentinels(accesses: readonly Access[], masterArgs: readonly string[] = []): Promise<Sentinels> {
  const master = await bench.server({ args: ['--appendonly', 'no', ...masterArgs] });
  const config = `sentinel monitor orders ${master.host} ${master.port} 1\n`;
  const { certFile, keyFile } = certificate;
  const nodes: Array<{ host: string; port: number }> = [];
  const servers: Array<Awaited<ReturnType<FaultBench['server']>>> = [];
  for (const { password, tls } of accesses) {
    const args = ['--sentinel', ...(password === undefined ? [] : ['--requirepass', password])];
    const port = tls ? await freePort() : undefined;
    if (tls) {
      args.push('--tls-port', String(port), '--tls-cert-file', certFile, '--tls-key-file', keyFile);
      args.push('--tls-ca-cert-file', certFile, '--tls-auth-clients', tls === 'any client' ? 'no' : 'yes');
    }
    const server = await bench.server({ config, args });
    servers.push(server);
    nodes.push({ host: server.host, port: port ?? server.port });
  }
  return { options: { sentinels: nodes, name: 'orders', updateSentinels: false }, servers, master };
}

/** In every place where a first connection may fail. */
async function expectRefusal(connection: RedisStreamsConnection, refusal: object): Promise<void> {
  const limit = AbortSignal.timeout(15_000);
  await expect(RedisStreamer.connect(connection, { logger })).rejects.toMatchObject(refusal);
  const client = new ClientRedisStreams({ connection, logger });
  bench.endLater(() => client.close());
  await expect(client.connect()).rejects.toMatchObject(refusal);
  const server = new ServerRedisStreams({ connection, logger, group: 'g' });
  bench.endLater(() => server.close());
  server.addHandler('s', () => Promise.resolve(), true);
  expect(await new Promise((resolve) => void server.listen(resolve))).toMatchObject(refusal);
  expect(limit.aborted).toBe(false);
}

type Form = readonly [form: string, wrap: (options: RedisOptions) => RedisStreamsConnection];
const FORMS: readonly Form[] = [
  ['options', (options) => options],
  ['a function', (options) => () => new Redis({ ...options, lazyConnect: true })],
  ['a function whose client connects', (options) => () => new Redis(options)],
];

describe.each(FORMS)('what all Sentinels refuse fails the first connection at once, with the reason: %s', (_, wrap) => {
  it('a wrong password', async () => {
    const { options } = await sentinels([{ password: 'right' }, { password: 'right' }]);
    await expectRefusal(wrap({ ...options, sentinelPassword: 'S3CRET' }), {
      code: 'ERR_PERMISSION',
      retryable: false,
      message: expect.stringMatching(/^Sentinel 127\.0\.0\.1:\d+ refused the login: WRONGPASS/),
    });
  });

  it('no password where one is needed', async () => {
    const { options } = await sentinels([{ password: 'right' }]);
    await expectRefusal(wrap(options), {
      code: 'ERR_PERMISSION',
      message: expect.stringMatching(/^Sentinel .* refused the login: NOAUTH/),
    });
  });

  it('a user that does not exist', async () => {
    const { options } = await sentinels([{ password: 'right' }]);
    await expectRefusal(wrap({ ...options, sentinelUsername: 'nobody', sentinelPassword: 'right' }), {
      code: 'ERR_PERMISSION',
    });
  });

  it('a certificate that is not trusted', async () => {
    const { options } = await sentinels([{ tls: 'any client' }, { tls: 'any client' }]);
    await expectRefusal(wrap({ ...options, sentinelTLS: {} }), {
      code: 'ERR_CONNECTION',
      retryable: false,
      message: expect.stringMatching(/^The certificate of Sentinel 127\.0\.0\.1:\d+ is refused/),
    });
  });
});

it('a wrong password of the master fails the first connection at once, when the Sentinels accept theirs', async () => {
  const { options } = await sentinels([{ password: 'right' }], ['--requirepass', 'other']);
  await expectRefusal(
    { ...options, sentinelPassword: 'right', password: 'S3CRET' },
    { code: 'ERR_PERMISSION', message: expect.stringMatching(/^Redis at sentinels .* refused the login: WRONGPASS/) },
  );
});

describe('one odd Sentinel among good ones does not keep from connecting', () => {
  it.each<[what: string, odd: Access]>([
    ['another password', { password: 'other' }],
    ['no TLS', {}],
    ['a client certificate that is asked for', { password: 'right', tls: 'known clients' }],
  ])('%s', async (_, odd) => {
    const good: Access = { password: 'right', tls: 'any client' };
    const { options } = await sentinels([odd, good]);
    const connection = { ...options, sentinelPassword: 'right', sentinelTLS: { ca: certificate.ca } };
    const streamer = await bench.streamer(connection);
    await expect((await streamer.createProducer('s')).send('x')).resolves.toMatchObject({ streamKey: 's' });
  });

  it('one that stands still leaves the others their time', async () => {
    const { options, servers } = await sentinels([{}, {}, {}]);
    servers[0]?.pause();
    servers[1]?.pause();
    bench.endLater(() => [servers[0], servers[1]].forEach((server) => server?.resume()));
    const streamer = await bench.streamer(options, { timeout: 4_000 });
    await expect((await streamer.createProducer('s')).send('x')).resolves.toMatchObject({ streamKey: 's' });
  });

  it('does not fail the first connection while another Sentinel is down: it waits for that one', async () => {
    const { options, servers } = await sentinels([{ password: 'right' }, {}]);
    await servers[1]?.kill();
    const connecting = bench.streamer(options, { timeout: 20_000 });
    await until('it has failed', () => bench.log.length > 0);
    await servers[1]?.restart();
    await connecting;
  });
});

it('Sentinels that do not know the master are named in the error after timeout', async () => {
  for (const updateSentinels of [true, false]) {
    const { options } = await sentinels([{}]);
    const connecting = bench.streamer({ ...options, name: 'order', updateSentinels }, { timeout: 1_000 });
    await expect(connecting).rejects.toMatchObject({
      code: 'ERR_CONNECT_TIMEOUT',
      message: expect.stringContaining('No such master with that name'),
    });
    expect(bench.log.join('\n')).toMatch(/Sentinel 127\.0\.0\.1:\d+ does not name the master 'order'/);
  }
});

describe('the connections to Sentinels that wait for a failover', () => {
  const OURS = 'nestjs-redis-streams';
  /** Gives each client its name when it returns it. */
  const readyClients = async (options: RedisOptions): Promise<() => Redis> => {
    const pool = Array.from({ length: 2 * (LOSSES + 1) }, () => new Redis(options));
    bench.endLater(() => pool.forEach((client) => client.disconnect()));
    await until('all are ready', () => pool.every(({ status }) => status === 'ready'));
    return () => {
      const client = pool.shift() as Redis;
      void client.client('SETNAME', OURS);
      return client;
    };
  };

  it.each<readonly [form: string, wrap: (options: RedisOptions) => unknown]>([
    ...FORMS,
    ['a function that returns a ready client', readyClients],
  ])('end with the connection to the master, also when that is lost: %s', async (_, wrap) => {
    const { master, options, servers } = await sentinels([{}]);
    const [admin, sentinel] = [bench.admin(master.url), bench.admin(servers[0]?.url as string)];
    const countOf = async (server: Redis, what: string): Promise<number> =>
      String(await server.client('LIST')).split(what).length - 1;
    const cut = async (): Promise<void> => {
      for (const line of String(await admin.client('LIST')).split('\n')) {
        if (line.includes(` name=${OURS}`)) await admin.client('KILL', 'ID', /id=(\d+)/.exec(line)?.[1] as string);
      }
    };
    const connection = await wrap({ ...options, failoverDetector: true });
    const streamer = await bench.streamer(connection as RedisStreamsConnection);
    const { connections } = streamer;
    for (let loss = 1; loss <= LOSSES; loss += 1) {
      const before = connections.reconnects;
      await cut();
      await until('writer and control are back', () => connections.reconnects >= before + 2);
    }
    await until('each has one that waits', async () => (await countOf(sentinel, ' cmd=subscribe')) === 2);
    await streamer.disconnect();
    await until('none waits', async () => (await countOf(sentinel, ' cmd=subscribe')) === 0);
  });

  const start = useChildProgram<ConsoleInput, ConsoleLine>('./console-child.ts');

  it.each<[what: string, odd: Access]>([
    ['refuse the certificate of the client', { tls: 'known clients' }],
    ['speak no TLS', {}],
    ['refuse the login', { tls: 'any client', password: 'other' }],
    ['are lost', { tls: 'any client' }],
  ])('print nothing and end nothing when they %s', async (_, odd) => {
    const { options, servers } = await sentinels([{ tls: 'any client' }, odd, odd]);
    const lines: ConsoleLine[] = [];
    const connection = { ...options, sentinelTLS: { ca: certificate.ca } };
    const program = await start({ connection }, (line) => lines.push(line));
    await until('a message is sent', () => lines.some(({ event }) => event === 'sent'));
    await Promise.all(servers.map((server) => server.kill()));
    program.process.stdin?.end();

    expect(await program.ended).toBe(0);
    expect(lines).toEqual([{ event: 'sent' }, { event: 'closed' }]);
  });
});
