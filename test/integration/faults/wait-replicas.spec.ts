import { beforeEach, describe, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import { ClientRedisStreams, RedisStreamer, RoundRobinSharder } from '../../../lib/index.js';
import type { Delivery, ProducerOptions, ReplicasMissingError, StreamProducer } from '../../../lib/index.js';
import { FaultBench } from '../../support/fault-bench.js';
import { RedisCluster } from '../../support/redis-cluster.js';
import type { ClusterNode } from '../../support/redis-cluster.js';
import type { RedisServer } from '../../support/redis-server.js';
import { numbers } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const DELIVERIES: readonly Delivery[] = ['at-least-once', 'at-most-once', 'exactly-once'];
/** Long enough for a replica on a busy machine. */
const PATIENT = 4_000;
const SHORT = 200;

describe('waitReplicas', () => {
  let master: RedisServer;
  let replicas: RedisServer[];

  beforeEach(async () => {
    const args = ['--appendonly', 'no', '--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1'];
    master = await bench.server({ args });
    replicas = await Promise.all([1, 2].map(() => bench.server({ args })));
    for (const { url } of replicas) await bench.admin(url).call('REPLICAOF', '127.0.0.1', String(master.port));
    await until('the replicas are in step', async () =>
      /connected_slaves:2\r\nslave0:.*state=online.*\r\nslave1:.*state=online/.test(
        await bench.admin(master.url).info('replication'),
      ),
    );
  });

  const admin = () => bench.admin(master.url);

  async function producerOf(options: ProducerOptions, url = master.url): Promise<StreamProducer> {
    return (await bench.streamer(url, { timeout: 10_000 })).createProducer('orders', options);
  }

  /** The first count of a replica that has just connected takes a while. */
  const warmUp = (producer: StreamProducer): Promise<void> =>
    until('the replicas confirm', () =>
      producer.sendTo('warm-up', 'x').then(
        () => true,
        () => false,
      ),
    );

  const failureOf = async (sending: Promise<unknown>): Promise<ReplicasMissingError> =>
    sending.then(
      () => {
        throw new Error('the send was confirmed');
      },
      (error: ReplicasMissingError) => error,
    );

  it.each(DELIVERIES)('confirms what all replicas have, with one WAIT for each batch (%s)', async (delivery) => {
    const producer = await producerOf({ delivery, waitReplicas: { count: 2, timeout: PATIENT } });
    const receipts = await Promise.all(numbers(0, 199).map((text) => producer.send(text)));
    for (const text of numbers(200, 299)) producer.enqueue(text);
    await producer.flush();
    for (const { url } of replicas) {
      const stored = await bench.admin(url).xrange('orders', '-', '+');
      expect(stored.map(([, fields]) => fields[1])).toEqual(numbers(0, 299));
      expect(stored.slice(0, 200).map(([id]) => id)).toEqual(receipts.map(({ id }) => id));
    }
    const waits = /^cmdstat_wait:calls=(\d+)/m.exec(await admin().info('commandstats'))?.[1];
    expect(Number(waits)).toBeLessThan(20);
  });

  it.each(DELIVERIES)(
    'fails with the receipt when a replica is missing; the message is stored once (%s)',
    async (delivery) => {
      const producer = await producerOf({ delivery, waitReplicas: { count: 2, timeout: SHORT } });
      await warmUp(producer);
      replicas[1]?.pause();
      const sends = [
        producer.send('plain'),
        producer.send('with an id', { deduplication: { id: '1', within: 60_000 } }),
        producer.send('later', { delay: 60_000 }),
      ];
      const failures = await Promise.all(sends.map(failureOf));
      for (const failure of failures) {
        expect(failure).toMatchObject({ code: 'ERR_REPLICAS_MISSING', retryable: false, replicas: 1 });
        expect(failure.receipt.streamKey).toBe('orders');
      }
      expect(await admin().xrange('orders', '-', '+')).toEqual([
        [failures[0]?.receipt.id, ['msg', 'plain']],
        [failures[1]?.receipt.id, ['msg', 'with an id']],
      ]);
      const manager = await (await bench.streamer(master.url)).createManager();
      const [delayed] = await manager.delayed('orders');
      expect([delayed?.id, delayed?.deliverAt]).toEqual([failures[2]?.receipt.id, failures[2]?.receipt.deliverAt]);

      producer.enqueue('enqueued');
      await expect(producer.flush()).rejects.toMatchObject({
        errors: [expect.objectContaining({ code: 'ERR_REPLICAS_MISSING', receipt: expect.anything() })],
      });
      replicas[1]?.resume();
      await warmUp(producer);
    },
  );

  it('names the shard in the receipt of an error, also of an enqueued message', async () => {
    const sharder = new RoundRobinSharder(2);
    const producer = await producerOf({ sharder, waitReplicas: { count: 3, timeout: 1 } });
    const failure = await failureOf(producer.send('first'));
    expect(failure.receipt).toMatchObject({ streamKey: 'orders', shardId: 0 });
    producer.enqueue('second');
    const [error] = ((await producer.flush().catch((flushing: AggregateError) => flushing)) as AggregateError).errors;
    expect((error as ReplicasMissingError).receipt).toMatchObject({ streamKey: 'orders', shardId: 1 });
    expect(await admin().xlen('orders:1')).toBe(1);
  });

  it('does not hold up a producer without it, nor a consumer', async () => {
    const streamer = await bench.streamer(master.url);
    const waiting = await streamer.createProducer('orders', {
      waitReplicas: { count: 3, timeout: PATIENT },
    });
    const quick = await streamer.createProducer('others');
    const consumer = await streamer.createConsumer('others', { mode: 'real-time' });
    let isWaiting = true;
    const failing = failureOf(waiting.send('x')).finally(() => (isWaiting = false));
    await quick.send('quick');
    expect((await consumer.next()).text()).toBe('quick');
    expect(isWaiting).toBe(true);
    await failing;
  });

  it('what a repeated batch finds stored is confirmed only when the replicas have it', async () => {
    const proxy = await bench.proxy(master);
    const producer = await producerOf(
      { delivery: 'exactly-once', waitReplicas: { count: 2, timeout: SHORT } },
      proxy.url,
    );
    await warmUp(producer);
    // The connection ends behind the append, so that the batch is repeated over one that has written nothing.
    replicas[1]?.pause();
    const lost = proxy.loseReplyTo('EVALSHA', 'writer');
    const failure = await failureOf(producer.send('repeated'));
    await lost;
    expect(failure).toMatchObject({ code: 'ERR_REPLICAS_MISSING', replicas: 1 });
    expect((await admin().xrange('orders', '-', '+')).map(([id, fields]) => [id, fields[1]])).toEqual([
      [failure.receipt.id, 'repeated'],
    ]);
  });

  it.each([
    ['at-least-once', 2],
    ['exactly-once', 1],
  ] as const)('a lost count is a lost reply: %s has the message %i times, and confirms it', async (delivery, times) => {
    const proxy = await bench.proxy(master);
    const producer = await producerOf({ delivery, waitReplicas: { count: 2, timeout: PATIENT } }, proxy.url);
    await producer.send('before');
    const lost = proxy.loseReplyTo('WAIT', 'writer');
    const { id } = await producer.send('repeated');
    await lost;
    const stored = (await admin().xrange('orders', '-', '+')).filter(([, fields]) => fields[1] === 'repeated');
    expect(stored).toHaveLength(times);
    expect(stored.at(-1)?.[0]).toBe(id);
  });

  it('a lost count of at-most-once is an uncertain send', async () => {
    const proxy = await bench.proxy(master);
    const waitReplicas = { count: 2, timeout: PATIENT };
    const producer = await producerOf({ delivery: 'at-most-once', waitReplicas }, proxy.url);
    await producer.send('before');
    const lost = proxy.loseReplyTo('WAIT', 'writer');
    await expect(producer.send('uncertain')).rejects.toMatchObject({ code: 'ERR_SEND_UNCERTAIN' });
    await lost;
    expect(await admin().xlen('orders')).toBe(2);
  });

  it('with fsync is refused before the first write where WAITAOF or the append-only file is missing', async () => {
    const isOld = !/^redis_version:(?:[89]|7\.[2-9])/m.test(await admin().info('server'));
    const producer = await producerOf({ waitReplicas: { count: 2, timeout: PATIENT, fsync: true } });
    await expect(producer.send('x')).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_OPERATION',
      message: expect.stringMatching(/waitReplicas\.fsync needs WAITAOF \(Redis 7\.2\), and appendonly yes/),
    });
    expect(await admin().exists('orders')).toBe(0);
    if (isOld) return;
    for (const { url } of [master, ...replicas]) await bench.admin(url).config('SET', 'appendonly', 'yes');
    const { id } = await producer.send('on disk');
    for (const { url } of replicas) expect((await bench.admin(url).xrange('orders', '-', '+'))[0]?.[0]).toBe(id);
  });

  it('without the permission for WAIT nothing is written', async () => {
    const client = admin();
    await client.call('ACL', 'SETUSER', 'clerk', 'on', '>pw', '~*', '+@all', '-wait');
    const producer = await producerOf(
      { waitReplicas: { count: 1, timeout: PATIENT } },
      master.url.replace('redis://', 'redis://clerk:pw@'),
    );
    await expect(producer.send('x')).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED_OPERATION',
      message: expect.stringMatching(/waitReplicas needs the command WAIT/),
    });
    expect(await client.exists('orders')).toBe(0);
  });

  it('what a repeated batch finds stored is not confirmed where nothing more may be written', async () => {
    await admin().call('ACL', 'SETUSER', 'clerk', 'on', '>pw', '~*', '+@all', '-set');
    const proxy = await bench.proxy(master);
    const producer = await producerOf(
      { delivery: 'exactly-once', waitReplicas: { count: 2, timeout: SHORT } },
      proxy.url.replace('redis://', 'redis://clerk:pw@'),
    );
    await warmUp(producer);
    replicas[1]?.pause();
    const lost = proxy.loseReplyTo('EVALSHA', 'writer');
    expect(await failureOf(producer.send('repeated'))).toMatchObject({ code: 'ERR_REPLICAS_MISSING', replicas: 1 });
    await lost;
    expect(await admin().xlen('orders')).toBe(1);
  });

  it('a message that was sent before is not confirmed where the server has no memory to ask its replicas', async () => {
    const options = { waitReplicas: { count: 2, timeout: SHORT } };
    const deduplication = { id: '1', within: 60_000 };
    const producer = await producerOf(options);
    await warmUp(producer);
    replicas[1]?.pause();
    const { receipt } = await failureOf(producer.send('x', { deduplication }));
    await admin().config('SET', 'maxmemory', '1');
    const another = await (await bench.streamer(master.url, { timeout: 1_000 })).createProducer('orders', options);
    expect(await failureOf(another.send('x', { deduplication }))).toMatchObject({ code: 'ERR_SEND_UNCERTAIN' });
    await admin().config('SET', 'maxmemory', '0');
    replicas[1]?.resume();
    await until('it is confirmed', () =>
      another.send('x', { deduplication }).then(
        ({ id }) => id === receipt.id,
        () => false,
      ),
    );
    expect(await admin().xlen('orders')).toBe(1);
  });

  it.each(DELIVERIES)('stores a message once when WAIT is no longer permitted (%s)', async (delivery) => {
    await admin().call('ACL', 'SETUSER', 'clerk', 'on', '>pw', '~*', '+@all');
    const producer = await producerOf(
      { delivery, waitReplicas: { count: 2, timeout: PATIENT } },
      master.url.replace('redis://', 'redis://clerk:pw@'),
    );
    await producer.send('before');
    await admin().call('ACL', 'SETUSER', 'clerk', '-wait');
    expect(await failureOf(producer.send('last'))).toMatchObject({ code: 'ERR_REPLICAS_MISSING', replicas: 0 });
    await expect(producer.send('refused')).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED_OPERATION' });
    expect((await admin().xrange('orders', '-', '+')).map(([, fields]) => fields[1])).toEqual(['before', 'last']);
    await admin().call('ACL', 'SETUSER', 'clerk', '+wait');
    await producer.send('after');
  });

  it('a master that is demoted while replicas are waited for confirms nothing', async () => {
    const client = admin();
    const connections = async () =>
      Number(/^total_connections_received:(\d+)/m.exec(await client.info('stats'))?.[1] ?? 0);
    const producer = await producerOf({
      delivery: 'exactly-once',
      waitReplicas: { count: 2, timeout: PATIENT },
    });
    await producer.send('before');
    replicas[1]?.pause();
    let isSettled = false;
    const sending = producer.send('x').finally(() => (isSettled = true));
    await until('it is stored', async () => (await client.xlen('orders')) === 2);
    const before = await connections();
    // Of a master that does not exist, so that the data stays.
    await client.call('REPLICAOF', '127.0.0.1', '1');
    await until('the producer looks for a master', async () => (await connections()) > before + 1);
    expect(isSettled).toBe(false);
    await client.call('REPLICAOF', 'NO', 'ONE');
    replicas[1]?.resume();
    const { id } = await sending;
    expect((await client.xrange('orders', '-', '+')).map(([stored]) => stored).slice(1)).toEqual([id]);
  });

  it('counts as use of the connection, which telemetry follows', async () => {
    const attached: unknown[] = [];
    const telemetry = { attach: (streamer: unknown) => void attached.push(streamer) };
    const streamer = new RedisStreamer(master.url, { telemetry: [telemetry] });
    bench.endLater(() => streamer.disconnect());
    const producer = await streamer.createProducer('orders', { waitReplicas: { count: 2, timeout: PATIENT } });
    expect([streamer.isUsed, attached]).toEqual([false, []]);
    await producer.send('x');
    expect([streamer.isUsed, attached]).toEqual([true, [streamer]]);
  });

  it('an event, a batch and a request of a client fail when a replica is missing; each is stored once', async () => {
    const logger = { error: () => undefined, warn: () => undefined, log: () => undefined };
    const client = new ClientRedisStreams({
      connection: master.url,
      waitReplicas: { count: 3, timeout: SHORT },
      logger,
    });
    bench.endLater(() => client.close());
    await admin().xgroup('CREATE', 'sums', 'adders', '0', 'MKSTREAM');
    const missing = { code: 'ERR_REPLICAS_MISSING' };
    await expect(firstValueFrom(client.emit('orders', 1))).rejects.toMatchObject(missing);
    await expect(firstValueFrom(client.emitBatch('orders', [2, 3]))).rejects.toMatchObject({
      code: 'ERR_BATCH_SEND',
      errors: [expect.objectContaining(missing), expect.objectContaining(missing)],
    });
    await expect(firstValueFrom(client.send('sums', [4, 5]))).rejects.toMatchObject(missing);
    expect(client.openRequests).toBe(0);
    expect(await admin().xlen('orders')).toBe(3);
    expect(await admin().xlen('sums')).toBe(1);
  });

  it('leaves no connection when its producer ends', async () => {
    const streamer = await bench.streamer(master.url);
    const client = admin();
    const writers = async () => [...String(await client.client('LIST')).matchAll(/ name=nestjs-redis-streams:writer/g)];
    const before = (await writers()).length;
    const producer = await streamer.createProducer('orders', { waitReplicas: { count: 1, timeout: PATIENT } });
    await producer.send('x');
    expect((await writers()).length).toBe(before + 1);
    await producer.end();
    await until('the connection is closed', async () => (await writers()).length === before);
    expect(streamer.status).toBe('connected');
    const unused = await streamer.createProducer('orders', { waitReplicas: { count: 1, timeout: PATIENT } });
    await unused.end();
    await expect(unused.trimMaxLen('orders', 1)).rejects.toMatchObject({ code: 'ERR_CLOSED' });
    expect((await writers()).length).toBe(before);
  });

  it('a hundred producers leave no connection', async () => {
    const streamer = await bench.streamer(master.url);
    const client = admin();
    const open = async () =>
      String(await client.client('LIST'))
        .trim()
        .split('\n').length;
    const before = await open();
    const waitReplicas = { count: 2, timeout: PATIENT };
    const producers = await Promise.all(numbers(0, 99).map(() => streamer.createProducer('orders', { waitReplicas })));
    const [used, unused] = [producers.slice(0, 50), producers.slice(50)];
    const sends = used.map((producer) => producer.send('x'));
    await Promise.all([...sends, ...unused.map((producer) => producer.end())]);
    expect(await open()).toBe(before + 50);
    await Promise.all(used.map((producer) => producer.end()));
    await until('all are closed', async () => (await open()) === before);
    expect(streamer.status).toBe('connected');
    expect(await streamer.health()).toMatchObject({ isHealthy: true });
  });

  it('disconnect() ends while replicas are waited for', async () => {
    const streamer = await bench.streamer(master.url, { shutdownTimeout: 300 });
    const producer = await streamer.createProducer('orders', { waitReplicas: { count: 3, timeout: 5_000 } });
    const failing = failureOf(producer.send('x'));
    await until('it is stored', async () => (await admin().xlen('orders')) === 1);
    await streamer.disconnect();
    expect(await failing).toMatchObject({ code: 'ERR_SEND_UNCERTAIN' });
  });
});

describe('waitReplicas in Cluster', () => {
  it.each([
    ['without it, what the replica did not have is lost', undefined, 10],
    ['with it, nothing that was confirmed', { count: 1, timeout: SHORT }, 0],
  ] as const)(
    'a failover loses: %s',
    async (_, waitReplicas, expected) => {
      const cluster = await RedisCluster.start({ replicas: true, nodeTimeout: 800 });
      bench.endLater(() => cluster.stop());
      const [key] = (await cluster.keys('orders', 1)) as [string];
      const master = await cluster.masterOf(key);
      const streamer = await bench.streamer(cluster.connection);
      const producer = await streamer.createProducer(key, waitReplicas ? { waitReplicas } : {});
      const confirmed: string[] = [];
      const send = async (text: string): Promise<void> => {
        const { id } = await producer.send(text);
        confirmed.push(id);
      };
      for (const text of numbers(0, 49)) await send(text);
      await master.admin.set(`{${key}}:marker`, 'x');
      expect(await master.admin.wait(1, 5_000)).toBe(1);
      const replica = cluster.replicas[0] as ClusterNode;
      replica.server.pause();
      await master.admin.call('CLIENT', 'KILL', 'TYPE', 'replica');
      const codes = await Promise.all(
        numbers(50, 59).map((text) =>
          send(text).then(
            () => 'confirmed',
            ({ code }: { code: string }) => code,
          ),
        ),
      );
      expect(new Set(codes)).toEqual(new Set([waitReplicas ? 'ERR_REPLICAS_MISSING' : 'confirmed']));
      await master.server.kill();
      replica.server.resume();
      const successor = await cluster.successorOf(key, master);
      const kept = new Set((await successor.admin.xrange(key, '-', '+')).map(([id]) => id));
      expect(confirmed.filter((id) => !kept.has(id))).toHaveLength(expected);
    },
    90_000,
  );
});

it.each([
  [{ count: 0, timeout: 100 }, 'waitReplicas.count'],
  [{ count: 1.5, timeout: 100 }, 'waitReplicas.count'],
  [{ count: 1, timeout: 0 }, 'waitReplicas.timeout'],
  [{ count: 1, timeout: 5_001 }, 'waitReplicas.timeout'],
  [{ count: 1 }, 'waitReplicas.timeout'],
  [{ count: 1, timeout: 100, fsync: 'yes' }, 'waitReplicas.fsync'],
  [{ count: 1, timeout: 100, replicas: 2 }, 'waitReplicas.replicas'],
  [2, 'waitReplicas'],
])('waitReplicas refuses %j before any I/O', async (waitReplicas, option) => {
  const streamer = new RedisStreamer('redis://127.0.0.1:1', { timeout: 20_000 });
  const creating = streamer.createProducer('orders', { waitReplicas: waitReplicas as never });
  await expect(creating).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION', option });
});
