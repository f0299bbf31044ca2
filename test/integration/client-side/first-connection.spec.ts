import { beforeEach, describe, expect, it } from '@jest/globals';
import { Cluster } from 'ioredis';
import { lastValueFrom } from 'rxjs';

import { ClientRedisStreams, ServerRedisStreams } from '../../../lib/index.js';
import type { ClusterConnection, RedisStreamsConnection } from '../../../lib/index.js';
import { RedisStreamer } from '../../../lib/engine/streamer.js';
import { FaultBench } from '../../support/fault-bench.js';
import { freePort } from '../../support/free-port.js';
import { LogLines } from '../../support/nest.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const quiet = { error: () => undefined, warn: () => undefined, log: () => undefined };

const outcomeOf = async (sending: Promise<unknown>): Promise<{ failure: unknown; took: number }> => {
  const begin = Date.now();
  const failure: unknown = await sending.then(
    () => 'sent',
    (error: unknown) => error,
  );
  return { failure, took: Date.now() - begin };
};

const clientOf = (connection: RedisStreamsConnection, connectTimeout?: number): ClientRedisStreams => {
  const options = connectTimeout === undefined ? {} : { connectTimeout };
  const client = new ClientRedisStreams({ connection, timeout: 30_000, ...options, logger: new LogLines() });
  bench.endLater(() => client.close());
  return client;
};

/** Listens, and resolves with the failure, if there is one. */
const listening = (server: ServerRedisStreams): Promise<unknown> =>
  new Promise((resolve) => void server.listen(resolve));

describe('a client that has never reached Redis', () => {
  const ways: ReadonlyArray<readonly [way: string, send: (client: ClientRedisStreams) => Promise<unknown>]> = [
    ['emit()', (client) => lastValueFrom(client.emit('never', 1))],
    ['send()', (client) => lastValueFrom(client.send('never', 1))],
  ];
  it.each(ways)('fails %s after connectTimeout, not after timeout, with address and cause', async (_, send) => {
    const port = await freePort();
    const { failure, took } = await outcomeOf(send(clientOf(`redis://user:secret@127.0.0.1:${port}`, 400)));

    expect(failure).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', retryable: true, address: `127.0.0.1:${port}` });
    expect((failure as Error).message).toMatch(
      new RegExp(`127\\.0\\.0\\.1:${port} within 400 ms; last cause: .*REFUSED`),
    );
    expect((failure as Error).message).not.toContain('secret');
    expect(took).toBeGreaterThanOrEqual(350);
    expect(took).toBeLessThan(5_000);
  });

  it('fails messages one by one, each after its own connectTimeout', async () => {
    const streamer = new RedisStreamer(`redis://127.0.0.1:${await freePort()}`, { connectTimeout: 600, logger: quiet });
    bench.endLater(() => streamer.disconnect());
    const producer = await streamer.createProducer('s');
    const first = outcomeOf(producer.send('1'));
    await new Promise((resolve) => setTimeout(resolve, 300));
    const second = outcomeOf(producer.send('2'));

    for (const { failure, took } of await Promise.all([first, second])) {
      expect(failure).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT' });
      expect(took).toBeGreaterThanOrEqual(550);
    }
  });

  it('sends what waits when Redis comes up within connectTimeout', async () => {
    const server = await bench.server();
    await server.kill();
    const sending = lastValueFrom(clientOf(server.url, 20_000).emit('late', 1));
    await server.restart();

    await expect(sending).resolves.toMatchObject({ streamKey: 'late' });
  });

  it('fails after connectTimeout in a cluster of which no node can be reached at the address that it announces', async () => {
    const cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    const nowhere = await freePort();
    const natMap = (): { host: string; port: number } => ({ host: '127.0.0.1', port: nowhere });
    const { failure } = await outcomeOf(
      lastValueFrom(clientOf({ ...cluster.connection, options: { natMap } }, 600).emit('never', 1)),
    );

    expect(failure).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT' });
  }, 20_000);
});

describe('a cluster whose slots are known and whose nodes refuse the login', () => {
  let cluster: RedisCluster;
  let stranger: string;
  beforeEach(async () => {
    cluster = await RedisCluster.start();
    bench.endLater(() => cluster.stop());
    const { host, port } = await bench.server({ args: ['--requirepass', 'other'] });
    stranger = `${host}:${port}`;
  });
  /** Commands to these masters go to a server that refuses the login. */
  const mapped = (masters: RedisCluster['masters']) => {
    const [host, port] = stranger.split(':') as [string, string];
    const entries = masters.map(({ server }) => [`${server.host}:${server.port}`, { host, port: Number(port) }]);
    return { natMap: Object.fromEntries(entries) as Record<string, { host: string; port: number }> };
  };

  it('fails at once, with the reason, when all of them do', async () => {
    const connection = { ...cluster.connection, options: mapped(cluster.masters) };
    const refusal = { code: 'ERR_PERMISSION', message: expect.stringMatching(`${stranger} refused the login: NOAUTH`) };
    const limit = AbortSignal.timeout(10_000);
    await expect(RedisStreamer.connect(connection, { logger: quiet })).rejects.toMatchObject(refusal);
    await expect(clientOf(connection).connect()).rejects.toMatchObject(refusal);
    const server = new ServerRedisStreams({ connection, group: 'g', logger: new LogLines() });
    bench.endLater(() => server.close());
    server.addHandler('orders', async () => undefined, true);
    expect(await listening(server)).toMatchObject(refusal);
    // A send asks for the node of its key alone.
    expect((await outcomeOf(lastValueFrom(clientOf(connection).emit('orders', 1)))).failure).toMatchObject({
      code: expect.stringMatching(/^ERR_(?:PERMISSION|SEND_FAILED)$/),
    });
    expect(limit.aborted).toBe(false);
  }, 20_000);

  it('connects when one of them does not, and serves the streams of that one', async () => {
    const [first, ...others] = cluster.masters;
    const streamer = await bench.streamer({ ...cluster.connection, options: mapped(others) });
    const keys = await cluster.keys('orders', 3);
    const served = await Promise.all(keys.map(async (key) => (await cluster.masterOf(key)) === first));
    const key = keys[served.indexOf(true)] as string;
    await expect((await streamer.createProducer(key)).send('x')).resolves.toMatchObject({ streamKey: key });
  }, 20_000);
});

describe('a client that has reached Redis', () => {
  it('has messages wait for timeout in an outage, however short connectTimeout is', async () => {
    const server = await bench.server();
    const client = clientOf(server.url, 100);
    await client.connect();
    await server.kill();
    const sending = lastValueFrom(client.emit('outage', 1));
    await new Promise((resolve) => setTimeout(resolve, 500));
    await server.restart();

    await expect(sending).resolves.toMatchObject({ streamKey: 'outage' });
  });
});

describe('a cluster of which one node has a name that DNS does not know', () => {
  const unknown = { host: 'down.invalid', port: 6379 };
  it.each([
    ['its nodes', (nodes) => ({ cluster: nodes })],
    ['a function', (nodes) => () => new Cluster(nodes, { lazyConnect: true })],
  ] satisfies Array<[string, (nodes: ClusterConnection['cluster']) => RedisStreamsConnection]>)(
    'is reached over its other nodes, given as %s',
    async (_, connectionOf) => {
      const cluster = await RedisCluster.start();
      bench.endLater(() => cluster.stop());
      const connection = connectionOf([unknown, ...cluster.connection.cluster]);

      const sending = lastValueFrom(clientOf(connection, 5_000).emit('known', 1));
      await expect(sending).resolves.toMatchObject({ streamKey: 'known' });
    },
  );

  it('fails with the reason when DNS knows none of them', async () => {
    const { failure } = await outcomeOf(lastValueFrom(clientOf({ cluster: [unknown] }, 600).emit('unknown', 1)));

    expect(failure).toMatchObject({ code: 'ERR_CONNECT_TIMEOUT', retryable: true });
    expect((failure as Error).message).toContain('ENOTFOUND down.invalid');
  });
});

describe('a server that starts while a master of its cluster is dead', () => {
  let cluster: RedisCluster;
  beforeEach(async () => {
    cluster = await RedisCluster.start({ replicas: true, nodeTimeout: 1_500 });
    bench.endLater(() => cluster.stop());
  });

  it('waits for its replica, and handles the messages of all streams', async () => {
    const [key, elsewhere] = (await cluster.keys('orders', 2)) as [string, string];
    const master = await cluster.masterOf(key);
    await master.server.kill();
    const log = new LogLines();
    const handled: unknown[] = [];
    const server = new ServerRedisStreams({ connection: cluster.connection, group: 'g', timeout: 30_000, logger: log });
    bench.endLater(() => server.close());
    for (const pattern of [key, elsewhere]) {
      server.addHandler(pattern, async (data) => void handled.push(data), true);
    }

    expect(await listening(server)).toBeUndefined();
    const client = clientOf(cluster.connection);
    await Promise.all([key, elsewhere].map((pattern) => lastValueFrom(client.emit(pattern, pattern))));
    await until('both were handled', () => handled.length === 2);
  }, 60_000);

  it('gives up after timeout when no replica takes over, and close() does not wait for it', async () => {
    const [key] = (await cluster.keys('orders', 1)) as [string];
    const master = await cluster.masterOf(key);
    for (const { server } of cluster.replicas) await server.kill();
    await master.server.kill();
    const options = { connection: cluster.connection, group: 'g', logger: new LogLines() };
    const impatient = new ServerRedisStreams({ ...options, timeout: 1_500 });
    const patient = new ServerRedisStreams({ ...options, timeout: 60_000 });
    for (const server of [impatient, patient]) server.addHandler(key, async () => undefined, true);

    const begin = Date.now();
    const failure = await listening(impatient);
    expect((failure as { code: string }).code).toMatch(/^ERR_(?:CONNECT_TIMEOUT|SERVER_REPLY)$/);
    expect(Date.now() - begin).toBeGreaterThanOrEqual(1_400);
    expect(Date.now() - begin).toBeLessThan(10_000);

    const waiting = listening(patient);
    await until('it is connected', () => patient.unwrap().status === 'connected');
    await patient.close();
    expect(await waiting).toBeInstanceOf(Error);
  }, 60_000);
});
