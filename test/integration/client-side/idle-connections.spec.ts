import { stat } from 'node:fs';
import { setTimeout as wait } from 'node:timers/promises';

import { afterEach, describe, expect, it } from '@jest/globals';
import { Cluster, Redis } from 'ioredis';

import type { RedisStreamsConnection } from '../../../lib/index.js';
import { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import type { RedisServer } from '../../support/redis-server.js';
import { until } from '../../support/until.js';

/** Seconds; the server looks about once a second. */
const IDLE_LIMIT = 2;
/** Milliseconds from which a connection counts as idle. */
const SILENCE = 1_000;

const bench = new FaultBench();

afterEach(() => {
  delete process.env['NESTJS_REDIS_STREAMS_WIRE'];
});

const idleServer = (): Promise<RedisServer> =>
  bench.server({ args: ['--appendonly', 'no', '--timeout', String(IDLE_LIMIT)] });

async function idleCluster(): Promise<RedisCluster> {
  const cluster = await RedisCluster.start();
  bench.endLater(() => cluster.stop());
  for (const { admin } of cluster.masters) await admin.config('SET', 'timeout', IDLE_LIMIT);
  return cluster;
}

/** A streamer with everything that it reports. */
async function open(connection: RedisStreamsConnection) {
  const statuses: string[] = [];
  const lines: string[] = [];
  const debug: string[] = [];
  const write = (line: string): unknown => lines.push(line);
  const logger = { error: write, warn: write, log: write, debug: (line: string) => debug.push(line) };
  const streamer = new RedisStreamer(connection, { logger, timeout: 20_000, blockTimeout: 1_000 });
  bench.endLater(() => streamer.disconnect());
  streamer.on('status', (status) => statuses.push(status));
  await streamer.connect();
  return { streamer, statuses, lines, debug };
}

type Form = [form: string, make: () => Promise<RedisStreamsConnection>];
const FORMS: readonly Form[] = [
  ['a URL', async () => (await idleServer()).url],
  [
    'a function',
    async () => {
      const { url } = await idleServer();
      return () => new Redis(url);
    },
  ],
  [
    'ioredis alone',
    async () => {
      process.env['NESTJS_REDIS_STREAMS_WIRE'] = 'ioredis';
      return (await idleServer()).url;
    },
  ],
  ['Cluster', async () => (await idleCluster()).connection],
  [
    'a function that returns a Cluster',
    async () => {
      const { cluster } = (await idleCluster()).connection;
      return () => new Cluster(cluster);
    },
  ],
];

describe('a connection that the server ends because it is idle', () => {
  it.each(FORMS)('is opened again without a warning, a change of status or a lost send: %s', async (_, make) => {
    const { streamer, statuses, lines, debug } = await open(await make());
    const seen: string[] = [];
    const consumer = await streamer.createConsumer('s', { mode: 'load-balanced', group: 'g', mkStream: true });
    void drain(consumer, (message) => seen.push(message.text()));
    const producer = await streamer.createProducer('s', { delivery: 'at-most-once' });
    const sent: string[] = [];
    for (let round = 0; round < 2; round += 1) {
      sent.push(`round ${round}`);
      await producer.send(`round ${round}`);
      const { connections } = streamer;
      const before = connections.reconnects;
      await until('the server has ended an idle connection', () => connections.reconnects > before);
    }

    await until('everything is handled', () => seen.length >= sent.length);
    expect(seen).toEqual(sent);
    expect(statuses).toEqual(['connected']);
    expect(lines).toEqual([]);
    expect(debug.filter((line) => line.includes('ended an idle connection'))).not.toEqual([]);
  });

  it('is an outage when it cannot be opened again, seen at once and over when the server is back', async () => {
    const server = await bench.server({ args: ['--appendonly', 'no'] });
    const { streamer, statuses, lines } = await open(server.url);
    const producer = await streamer.createProducer('s');
    await producer.send('before');
    await wait(1.5 * SILENCE);
    await server.kill();

    await until('it is seen', () => statuses.includes('reconnecting'), 5_000);
    expect(lines.join('\n')).toMatch(/lost, reconnecting/);
    const sending = producer.send('during');
    await server.restart();
    await sending;
    await until('it is over', () => statuses.at(-1) === 'connected');
    expect(statuses).toEqual(['connected', 'reconnecting', 'connected']);
  });

  it.each<[phase: string, call: (send: () => void) => void]>([
    ['an immediate', (send) => setImmediate(send)],
    ['a timer', (send) => setTimeout(send, 1)],
    ['a callback of I/O', (send) => stat('/', send)],
  ])('costs no send its certainty when the process was busy at its end, in %s', async (_, call) => {
    const server = await idleServer();
    const { streamer, lines } = await open(server.url);
    const producer = await streamer.createProducer('s', { delivery: 'at-most-once' });
    await producer.send('first');
    // The writer is closed by the server while this process computes; then the next message is sent in the same turn.
    await new Promise<void>((resolve, reject) => {
      call(() => {
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3_000 * IDLE_LIMIT);
        producer.send('second').then(() => resolve(), reject);
      });
    });

    expect(await bench.admin(server.url).xlen('s')).toBe(2);
    expect(lines).toEqual([]);
  });
});
