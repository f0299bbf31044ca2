import { copyFileSync } from 'node:fs';
import { afterAll, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

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
afterAll(() => [certificate, other].forEach((each) => each.remove()));

const logger = { error: () => undefined, warn: () => undefined, log: () => undefined };

async function tlsServer({ certFile, keyFile }: Certificate) {
  const port = await freePort();
  const files = ['--tls-cert-file', certFile, '--tls-key-file', keyFile, '--tls-ca-cert-file', certFile];
  const server = await bench.server({ args: ['--tls-port', String(port), ...files, '--tls-auth-clients', 'no'] });
  return { server, port };
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
  const connection = make(port);
  const refusal = { code: 'ERR_CONNECTION', retryable: false, message: expect.stringMatching(/certificate/i) };

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
  await until('the certificate is refused', () => lines.some((line) => /certificate/i.test(line)));
  copyFileSync(kept.certFile, certificate.certFile);
  copyFileSync(kept.keyFile, certificate.keyFile);
  await server.kill();
  await server.restart();

  await expect(sending).resolves.toMatchObject({ streamKey: key });
}, 60_000);
