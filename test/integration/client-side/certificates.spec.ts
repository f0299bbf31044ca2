import { execFileSync } from 'node:child_process';
import { copyFileSync, readFileSync } from 'node:fs';
import type { ConnectionOptions } from 'node:tls';
import { afterAll, describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';

import { ClientRedisStreams, RedisStreamer, ServerRedisStreams } from '../../../lib/index.js';
import type { RedisStreamsConnection } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { freePort } from '../../support/free-port.js';
import { uniqueName } from '../../support/redis.js';
import { makeCertificate } from '../../support/tls-certificate.js';
import type { Certificate } from '../../support/tls-certificate.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const [certificate, other] = [makeCertificate(), makeCertificate()];
const ENCRYPTED_KEY = execFileSync('openssl', ['ec', '-in', other.keyFile, '-aes256', '-passout', 'pass:right'], {
  stdio: ['ignore', 'pipe', 'ignore'],
});
afterAll(() => [certificate, other].forEach((each) => each.remove()));

const logger = { error: () => undefined, warn: () => undefined, log: () => undefined };

const BUS_OFFSET = 10_000;

async function tlsServer({ certFile, keyFile }: Certificate, args: readonly string[] = []) {
  // The bus of a cluster has a port of its own.
  const port = await freePort(BUS_OFFSET);
  const files = ['--tls-cert-file', certFile, '--tls-key-file', keyFile, '--tls-ca-cert-file', certFile];
  const tls = ['--tls-port', String(port), ...files, '--tls-auth-clients', 'no'];
  const server = await bench.server({ args: [...tls, ...args] });
  return { server, port };
}

/** In every place where a first connection may fail. */
async function expectRefusal(connection: RedisStreamsConnection, refusal: object): Promise<void> {
  const limit = AbortSignal.timeout(10_000);
  await expect(RedisStreamer.connect(connection, { logger })).rejects.toMatchObject(refusal);
  const client = new ClientRedisStreams({ connection, logger });
  bench.endLater(() => client.close());
  await expect(client.connect()).rejects.toMatchObject(refusal);
  const server = new ServerRedisStreams({ connection, logger, group: 'g' });
  server.addHandler('s', () => Promise.resolve(), true);
  const listening = await new Promise((resolve) => void server.listen(resolve));
  expect(listening).toMatchObject(refusal);
  expect(limit.aborted).toBe(false);
}

type Make = (port: number) => RedisStreamsConnection;
const FORMS: ReadonlyArray<[form: string, make: Make]> = [
  ['a URL', (port) => `rediss://127.0.0.1:${port}`],
  ['options', (port) => ({ host: '127.0.0.1', port, tls: {} })],
  [
    'the host name of another certificate',
    (port) => ({ port, tls: { ca: certificate.ca, servername: 'redis.example' } }),
  ],
  ['a function', (port) => () => new Redis(port, { tls: {} })],
  ['a cluster', (port) => ({ cluster: [`rediss://127.0.0.1:${port}`] })],
];

it.each(FORMS)('a certificate that is not trusted fails the first connection at once: %s', async (_, make) => {
  const { port } = await tlsServer(certificate);
  await expectRefusal(make(port), {
    code: 'ERR_CONNECTION',
    retryable: false,
    message: expect.stringMatching(/certificate/i),
  });
});

describe('a certificate of the client that cannot be used fails the first connection at once', () => {
  // With TLS 1.3 a server looks at it after the handshake, and the end of the connection may hide what it says: then the next
  // attempt, or a later one, finds out.
  const maxVersion = 'TLSv1.2';
  const stranger = { cert: readFileSync(other.certFile), key: readFileSync(other.keyFile) };
  it.each<[what: string, tls: ConnectionOptions, rule: RegExp]>([
    [
      'it is missing',
      { maxVersion },
      /refused the TLS handshake, or the certificate of this client: .*handshake failure/,
    ],
    [
      'the server does not trust it',
      { ...stranger, maxVersion },
      /refused the TLS handshake, or the certificate of this client: .*ca$/,
    ],
    ['it is no certificate', { cert: 'x', key: 'y' }, /^The options of the connection to Redis at .* cannot be used/],
    ['its key is another one', { ...stranger, key: readFileSync(certificate.keyFile) }, /mismatch/],
    ['it has another passphrase', { key: ENCRYPTED_KEY, passphrase: 'S3CRET' }, /cannot be used: .*(?:decrypt|bad)/],
    ['its option has a wrong type', { cert: 7 as never }, /cannot be used: .*must be .* string/],
  ])('%s', async (_, tls, rule) => {
    const { port } = await tlsServer(certificate, ['--tls-auth-clients', 'yes']);
    const connection = { host: '127.0.0.1', port, tls: { ca: certificate.ca, ...tls } };
    await expectRefusal(connection, {
      code: 'ERR_CONNECTION',
      retryable: false,
      message: expect.stringMatching(rule),
    });
  });
});

describe('a cluster whose nodes all refuse, at addresses that are known, fails the first connection at once', () => {
  /** One node serves all slots; what it announces of itself is mapped to another address. */
  async function singleNodeCluster() {
    const { server, port } = await tlsServer(certificate, [
      '--cluster-enabled',
      'yes',
      '--tls-cluster',
      'yes',
      '--cluster-announce-ip',
      '127.0.0.1',
    ]);
    const admin = bench.admin(server.url);
    await admin.cluster('ADDSLOTS', ...Array.from({ length: 16_384 }, (_, slot) => slot));
    await until('it serves', async () => String(await admin.cluster('INFO')).includes('cluster_state:ok'));
    return { server, port };
  }

  it.each<[form: string, asFunction: boolean]>([
    ['{ cluster }', false],
    ['a function', true],
  ])('because their certificate has other names: %s', async (_, asFunction) => {
    const { port } = await singleNodeCluster();
    // Discovery uses an address that the certificate has, and the nodes announce one that it does not have.
    const natMap = { [`127.0.0.1:${port}`]: { host: 'localhost', port } };
    const nodes = [{ host: '127.0.0.1', port }];
    const options = { natMap, redisOptions: { tls: { ca: certificate.ca } } };
    const connection = asFunction ? () => new Cluster(nodes, options) : { cluster: nodes, options };
    await expectRefusal(connection, {
      code: 'ERR_CONNECTION',
      retryable: false,
      message: expect.stringMatching(/^The certificate of Redis at localhost:\d+ is refused/),
    });
  });
});

it('a cluster that cannot be reached fails with the reason', async () => {
  const cluster = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
  await expect(RedisStreamer.connect({ cluster }, { logger, timeout: 1_500 })).rejects.toMatchObject({
    code: 'ERR_CONNECT_TIMEOUT',
    message: expect.stringContaining('ECONNREFUSED'),
  });
});

it('a certificate that is not trusted after the first connection is an outage, which ends', async () => {
  const { server, port } = await tlsServer(certificate);
  const key = uniqueName('stream');
  const lines: string[] = [];
  const streamer = await bench.streamer(
    { host: '127.0.0.1', port, tls: { ca: certificate.ca } },
    { timeout: 60_000, logger: { ...logger, warn: (line: string) => lines.push(line) } },
  );
  const producer = await streamer.createProducer(key);
  await producer.send('before');
  const kept = makeCertificate();
  bench.endLater(() => kept.remove());
  copyFileSync(certificate.certFile, kept.certFile);
  copyFileSync(certificate.keyFile, kept.keyFile);
  copyFileSync(other.certFile, certificate.certFile);
  copyFileSync(other.keyFile, certificate.keyFile);
  await server.kill();
  await server.restart();
  const sending = producer.send('after');
  // One attempt may take 10 s, and what time alone does not cure is tried every 10 s.
  await until('the certificate is refused', () => lines.some((line) => /certificate/i.test(line)), 30_000);
  copyFileSync(kept.certFile, certificate.certFile);
  copyFileSync(kept.keyFile, certificate.keyFile);
  await server.kill();
  await server.restart();

  await expect(sending).resolves.toMatchObject({ streamKey: key });
}, 90_000);
