import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { Cluster } from 'ioredis';
import { firstValueFrom } from 'rxjs';

import { KeyHashSharder, RedisStreamer } from '../../../lib/index.js';
import { onEvent, onRequest } from '../../support/controllers.js';
import { FaultBench, drain } from '../../support/fault-bench.js';
import type { FaultProxy } from '../../support/fault-proxy.js';
import { Ledger } from '../../support/ledger.js';
import { GROUP, useNest } from '../../support/nest.js';
import { RedisCluster, type ClusterNode } from '../../support/redis-cluster.js';
import { numbers, take, texts } from '../../support/streams.js';
import { until } from '../../support/until.js';

const bench = new FaultBench();
const nest = useNest();
let cluster: RedisCluster;

beforeAll(async () => {
  cluster = await RedisCluster.start();
});
afterAll(() => cluster.stop());

const proxied = async (): Promise<[streamer: RedisStreamer, proxies: FaultProxy[]]> => {
  const proxies = await Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
  return [await bench.streamer(cluster.connectionThrough(proxies)), proxies];
};

const pendingOn = async (key: string, group: string): Promise<number> =>
  Number((await (await cluster.masterOf(key)).admin.xpending(key, group))[0]);

describe('streams of a cluster', () => {
  it.each(['real-time', 'resumable', 'load-balanced'] as const)(
    'on all nodes are written and read at the same time, each in order (%s)',
    async (mode) => {
      const prefix = `app:${mode}:`;
      const keys = (await cluster.keys(prefix, 6)).map((key) => key.slice(prefix.length));
      const streamer = await bench.streamer(cluster.connection, { keyPrefix: prefix });
      const producer = await streamer.createGenericProducer();
      const group = mode === 'real-time' ? {} : { group: 'g', mkStream: true };
      const consumer = await streamer.createConsumer(keys, { mode, ...group } as { mode: 'resumable' });
      const payloads = numbers(0, 49);
      const sends = payloads.map((payload) => keys.map((key) => producer.sendTo(key, payload)));
      await Promise.all(sends.flat());
      const messages = await take(consumer, 300);

      for (const key of keys) {
        expect(texts(messages.filter(({ streamKey }) => streamKey === key))).toEqual(payloads);
      }
      await consumer.end();
      if (mode === 'real-time') return;
      expect(await Promise.all(keys.map((key) => pendingOn(prefix + key, 'g')))).toEqual(keys.map(() => 0));
    },
  );

  it('may be the shards of one stream: all messages of a key are in one shard, in order', async () => {
    const streamer = await bench.streamer(cluster.connection);
    const producer = await streamer.createProducer('shop', { sharder: new KeyHashSharder(6) });
    const customers = numbers(0, 29).map((number) => `customer-${number}`);
    const sends = numbers(0, 9).map((round) => customers.map((key) => producer.send(`${key}/${round}`, { key })));
    const receipts = (await Promise.all(sends.flat())).length;
    const options = { mode: 'load-balanced', group: 'g', autoStreamReset: 'earliest' } as const;
    const consumer = await streamer.createConsumer('shop', options);
    const messages = await take(consumer, receipts);

    const owners = await Promise.all(numbers(0, 5).map((shard) => cluster.masterOf(`shop:${shard}`)));
    expect(new Set(owners).size).toBeGreaterThan(1);
    expect(consumer.streamShards).toHaveLength(6);
    for (const customer of customers) {
      const own = messages.filter((message) => message.text().startsWith(`${customer}/`));
      expect(texts(own)).toEqual(numbers(0, 9).map((round) => `${customer}/${round}`));
      expect(new Set(own.map(({ shardId }) => shardId)).size).toBe(1);
    }
  });

  it('are found by scan() on every master, page by page', async () => {
    const prefix = 'scanned:';
    const keys = await cluster.keys(prefix, 1_800);
    const masters = new Map(
      await Promise.all(keys.slice(0, 3).map(async (key) => [key, await cluster.masterOf(key)] as const)),
    );
    const fill = [...masters.values()].map(async ({ admin }, index) => {
      const pipeline = admin.pipeline();
      for (const [at, key] of keys.entries()) if (at % 3 === index) pipeline.xadd(key, '*', 'msg', 'x');
      pipeline.set(`{${keys[index]}}:other`, 'not a stream');
      await pipeline.exec();
    });
    await Promise.all(fill);
    const streamer = await bench.streamer(cluster.connection, { keyPrefix: prefix });
    const manager = await streamer.createManager();

    const found = new Set<string>();
    let pages = 0;
    let cursor: string | undefined;
    while (cursor !== '0') {
      const page = await manager.scan(cursor);
      for (const stream of page.streams) found.add(prefix + stream);
      cursor = page.cursor;
      pages += 1;
    }
    expect([...found].sort()).toEqual([...keys].sort());
    expect(pages).toBeGreaterThan(3);
  });

  it('are found by scan() on every master also when it is the first call on the connection', async () => {
    const keys = await cluster.keys('unconnected:', 3);
    for (const key of keys) await (await cluster.masterOf(key)).admin.xadd(key, '*', 'msg', 'x');
    await using streamer = new RedisStreamer(cluster.connection, { keyPrefix: 'unconnected:' });
    const manager = await streamer.createManager();
    const found: string[] = [];
    let cursor: string | undefined;
    while (cursor !== '0') {
      const page = await manager.scan(cursor);
      found.push(...page.streams.map((stream) => `unconnected:${stream}`));
      cursor = page.cursor;
    }
    expect(found.sort()).toEqual([...keys].sort());
  });
});

describe('a manager of a cluster', () => {
  it('sums up shards on all nodes, and finds and deletes dead letters on the node of their stream', async () => {
    const stream = 'managed';
    const streamer = await bench.streamer(cluster.connection);
    const manager = await streamer.createManager();
    const keys = numbers(0, 5).map((shard) => `${stream}:${shard}`);
    const nodes = new Set<ClusterNode>();
    for (const key of keys) {
      const node = await cluster.masterOf(key);
      nodes.add(node);
      await node.admin.xadd(key, '*', 'msg', 'x');
      await node.admin.xgroup('CREATE', key, 'g', '0');
      await node.admin.xreadgroup('GROUP', 'g', 'c', 'STREAMS', key, '>');
    }
    expect(nodes.size).toBe(3);
    await manager.pauseGroup(stream, 'g');

    const info = await manager.info(stream);
    expect(info).toMatchObject({ length: 6, groups: [{ name: 'g', pending: 6, isPaused: true }] });
    expect(info.memory).toBeGreaterThan(0);
    expect(info.shards.map(({ key }) => key)).toEqual(keys);
    expect(await manager.consumers(stream, 'g')).toMatchObject([{ name: 'c', pending: 6 }]);

    const { admin } = await cluster.masterOf(`${stream}.dead`);
    const id = String(await admin.xadd(`${stream}.dead`, '*', 'msg', 'x', 'h:dead-letter-reason', 'bad'));
    expect(await manager.deadLetters(stream, { reason: 'bad' })).toMatchObject([{ id, reason: 'bad' }]);
    expect(await manager.removeDeadLetter(stream, id)).toBe(true);
    expect(await manager.deadLetters(stream)).toEqual([]);
  });
});

describe('a connection to one node of a cluster', () => {
  it('that breaks during the reply to a read loses nothing', async () => {
    const [streamer, proxies] = await proxied();
    const keys = await cluster.keys('torn', 3);
    const ledger = new Ledger();
    const { admin } = cluster.masters[0] as ClusterNode;
    const looks = async (): Promise<number> =>
      Number(/cmdstat_xpending:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1] ?? 0);
    const before = await looks();
    const options = { mode: 'resumable', group: 'g', mkStream: true } as const;
    const consumer = await streamer.createConsumer(keys, options);
    const counts: number[] = [];
    void drain(consumer, (message) => {
      ledger.handledMessage(message);
      counts.push(message.deliveryCount);
    });
    const [key] = keys as [string];
    const [proxy] = proxies as [FaultProxy];
    // Then it has no reason of its own to read them again.
    await until('the new reader has read its pending entries twice', async () => (await looks()) >= before + 2);
    proxy.delay(300);
    await admin.xadd(key, '*', 'msg', 'x');
    await until('the reply is in flight', async () => (await pendingOn(key, 'g')) === 1);
    proxy.cut('rst', 'reader');
    proxy.delay(0);

    await until('the message is handled', () => ledger.handled === 1);
    expect(counts).toEqual([1]);
  });

  it('that breaks during the replies to sends duplicates no message with delivery exactly-once', async () => {
    const [streamer, proxies] = await proxied();
    const keys = await cluster.keys('once', 3);
    const producer = await streamer.createGenericProducer({ delivery: 'exactly-once', maxBatch: 20 });
    const payloads = numbers(0, 999);
    const receipts: Array<Promise<string>> = [];
    for (const [index, payload] of payloads.entries()) {
      for (const key of keys) receipts.push(producer.sendTo(key, payload).then(({ id }) => `${key} ${id}`));
      if (index % 100 === 50) await proxies[Math.floor(index / 100) % 3]?.tearReply(0, 'writer');
    }
    const confirmed = new Set(await Promise.all(receipts));

    for (const key of keys) {
      const entries = await (await cluster.masterOf(key)).admin.xrange(key, '-', '+');
      expect(entries.map(([, [, payload]]) => payload)).toEqual(payloads);
      expect(entries.every(([id]) => confirmed.has(`${key} ${id}`))).toBe(true);
    }
  });
});

describe('a node of a cluster that stands still', () => {
  const options = { mode: 'load-balanced', group: 'g', mkStream: true, shardDiscoveryInterval: false } as const;

  it('does not delay acks of streams on other nodes', async () => {
    const [streamer, proxies] = await proxied();
    const keys = await cluster.keys('acks', 3);
    const consumer = await streamer.createConsumer(keys, { ...options, autoCommit: 'rolling', autoCommitInterval: 50 });
    const producer = await streamer.createGenericProducer();
    const round = async (to: readonly string[]): Promise<void> => {
      await Promise.all(to.map((key) => producer.sendTo(key, 'x')));
      for (const message of await take(consumer, to.length)) consumer.ack(message);
    };
    const isAcknowledged = async (): Promise<boolean> =>
      (await Promise.all(keys.slice(1).map((key) => pendingOn(key, 'g')))).every((pending) => pending === 0);
    await Promise.all(keys.map((key) => producer.sendTo(key, 'x')));
    const messages = await take(consumer, 3);
    proxies[0]?.stall();
    for (const message of messages) consumer.ack(message);
    await until('the first acks are on the server', isAcknowledged, 5_000);
    await round(keys.slice(1));

    await until('the next acks are on the server', isAcknowledged, 5_000);
    proxies[0]?.cut();
    proxies[0]?.unstall();
  });

  it('does not delay the start of consumers of streams on other nodes', async () => {
    const proxies = await Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
    proxies[0]?.stall();
    const streamer = await bench.streamer(cluster.connectionThrough(proxies), { timeout: 5_000 });
    const [, key] = (await cluster.keys('start', 2)) as [string, string];
    const producer = await streamer.createProducer(key);
    const consumer = await streamer.createConsumer(key, options);
    await producer.send('x');

    expect(texts(await take(consumer, 1))).toEqual(['x']);
    proxies[0]?.cut();
    proxies[0]?.unstall();
  });
});

describe('a slot that no node serves', () => {
  it('delays only sends to its own streams, also before the first connection', async () => {
    const keys = await cluster.keys('unserved', 6);
    const [unserved, ...others] = keys as [string, ...string[]];
    const [owner] = cluster.masters as [ClusterNode];
    const slot = await owner.admin.cluster('KEYSLOT', unserved);
    const all = async (change: (node: ClusterNode) => Promise<unknown>): Promise<void> => {
      await Promise.all(cluster.masters.map(change));
    };
    await all(({ admin }) => admin.config('SET', 'cluster-require-full-coverage', 'no'));
    await all(({ admin }) => admin.cluster('DELSLOTS', slot));
    const streamer = new RedisStreamer(cluster.connection, { timeout: 20_000 });
    bench.endLater(() => streamer.disconnect());
    const producer = await streamer.createGenericProducer();
    const late = producer.sendTo(unserved, 'late');
    const isLate = AbortSignal.timeout(10_000);
    for (const payload of ['first', 'second']) {
      await Promise.all(others.map((key) => producer.sendTo(key, payload)));
    }
    expect(isLate.aborted).toBe(false);
    await owner.admin.cluster('ADDSLOTS', slot);

    await expect(late).resolves.toMatchObject({ streamKey: unserved });
    await all(({ admin }) => admin.config('SET', 'cluster-require-full-coverage', 'yes'));
    await until('all nodes know the owner of the slot', async () => {
      const infos = await Promise.all(cluster.masters.map(({ admin }) => admin.cluster('INFO')));
      return infos.every((info) => String(info).includes('cluster_state:ok'));
    });
    for (const key of others) {
      expect((await (await cluster.masterOf(key)).admin.xrange(key, '-', '+')).map(([, [, text]]) => text)).toEqual([
        'first',
        'second',
      ]);
    }
  });
});

describe('a cluster of which all nodes get other addresses at once', () => {
  it('is found again over the nodes of the connection, and nothing is lost', async () => {
    const proxiesOf = (): Promise<FaultProxy[]> =>
      Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
    const addressOf = ({ url }: FaultProxy): { host: string; port: number } => {
      const { hostname, port } = new URL(url);
      return { host: hostname, port: Number(port) };
    };
    const [seed, before, after] = [
      await bench.proxy((cluster.masters[0] as ClusterNode).server),
      await proxiesOf(),
      await proxiesOf(),
    ];
    let proxies = before;
    const natMap = (address: string): { host: string; port: number } | null => {
      const index = cluster.masters.findIndex(({ server: { host, port } }) => address === `${host}:${port}`);
      return index === -1 ? null : addressOf(proxies[index] as FaultProxy);
    };
    const streamer = await bench.streamer({ cluster: [addressOf(seed)], options: { natMap } });
    const keys = await cluster.keys('addresses', 3);
    const ledger = new Ledger();
    const consumer = await streamer.createConsumer(keys, { mode: 'load-balanced', group: 'g', mkStream: true });
    void drain(consumer, (message) => ledger.handledMessage(message));
    const producer = await streamer.createGenericProducer({ delivery: 'exactly-once' });
    const sendAll = (prefix: string): void => {
      for (const key of keys) {
        for (const n of numbers(0, 9))
          void ledger.sent(`${prefix}-${key}-${n}`, producer.sendTo(key, `${prefix}-${key}-${n}`));
      }
    };
    sendAll('before');
    await until('all are handled', () => ledger.handled === 30);
    // The nodes cannot be reached at the old addresses, and for a moment at no other.
    for (const proxy of [seed, ...before]) {
      proxy.refuse();
      proxy.cut();
    }
    sendAll('during');
    await until('the loss is seen', () => streamer.status === 'reconnecting');
    await until('discovery has failed', () => bench.log.some((line) => line.includes('discovery')));
    proxies = after;
    await seed.accept();
    sendAll('after');

    const { lost } = await ledger.settled();
    expect({ lost, failures: [...ledger.failures], handled: ledger.handled }).toEqual({
      lost: [],
      failures: [],
      handled: 90,
    });
    await until('the streamer is connected', () => streamer.status === 'connected');
  }, 30_000);
});

describe('a cluster client that the application creates', () => {
  it('detects a half-open connection, like the clients that the package creates', async () => {
    const [key] = (await cluster.keys('own', 1)) as [string];
    const proxies = await Promise.all(cluster.masters.map(({ server }) => bench.proxy(server)));
    const { cluster: nodes, options } = cluster.connectionThrough(proxies);
    const streamer = await bench.streamer(() => new Cluster(nodes, options), { timeout: 3_000, blockTimeout: 300 });
    const consumer = await streamer.createConsumer(key, { mode: 'resumable', group: 'g', mkStream: true });
    const producer = await streamer.createProducer(key);
    await producer.send('before');
    expect((await consumer.next()).text()).toBe('before');
    const [proxy] = proxies as [FaultProxy];
    proxy.stall();
    proxy.unstall();
    await (cluster.masters[0] as ClusterNode).admin.xadd(key, '*', 'msg', 'after');

    expect((await consumer.next({ signal: AbortSignal.timeout(15_000) })).text()).toBe('after');
  });
});

describe('ending a streamer that reads from a cluster', () => {
  it('takes about as long as a blocked read, and leaves no connection open', async () => {
    // A slot refresh that is in flight at the end is what can leave a connection open.
    const connection = { ...cluster.connection, options: { slotsRefreshInterval: 20 } };
    for (let round = 0; round < 3; round += 1) {
      const streamer = await bench.streamer(connection, { blockTimeout: 20_000 });
      const keys = await cluster.keys('ended', 3);
      const consumer = await streamer.createConsumer(keys, { mode: 'load-balanced', group: 'g', mkStream: true });
      const waiting = consumer.next().catch((error: { code: string }) => error.code);
      await until('every read is blocked', async () => {
        const { loops } = await streamer.health();
        return loops.length > 0 && loops.every(({ state }) => state === 'reading');
      });
      const begin = Date.now();
      await streamer.disconnect();

      expect(Date.now() - begin).toBeLessThan(4_000);
      expect(await waiting).toBe('ERR_CONSUMER_ENDED');
    }
    for (const { admin } of cluster.masters) {
      await until(
        'no connection is left',
        async () => !String(await admin.client('LIST')).includes('nestjs-redis-streams'),
      );
    }
  });
});

describe('a service in a cluster', () => {
  it('retries, appends dead letters on another node, and answers requests', async () => {
    const [pattern, sum] = (await cluster.keys('service', 2)) as [string, string];
    const connection = cluster.connection;
    const counts: number[] = [];
    const handle = (_data: unknown, context: { getDeliveryCount(): number }): void => {
      counts.push(context.getDeliveryCount());
      throw new Error('not today');
    };
    const retry = { attempts: 3, delay: 20 };
    const deadLetter = { stream: (await cluster.keys('dead', 2))[1] as string };
    await nest.serve(onEvent(pattern, handle), { connection, retry, deadLetter });
    await nest.serve(
      onRequest(sum, (terms: number[]) => terms.reduce((a, b) => a + b)),
      { connection },
    );
    const client = nest.client({ connection });

    await firstValueFrom(client.emit(pattern, 'x'));
    expect(await firstValueFrom(client.send(sum, [1, 2, 3]))).toBe(6);
    const grave = await cluster.masterOf(deadLetter.stream);
    await until('the message is a dead letter', async () => (await grave.admin.xlen(deadLetter.stream)) === 1);
    expect(counts).toEqual([1, 2, 3]);
    await until('nothing is pending', async () => (await pendingOn(pattern, GROUP)) === 0);
  });
});
