import { createRequire } from 'node:module';
import { describe, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';

import { RedisStreamer } from '../../lib/index.js';
import type { RedisStreamsConnection, RedisStreamsLogger } from '../../lib/index.js';
import { IoredisChannel } from '../../lib/redis/connection/ioredis-channel.js';
import { RespChannel } from '../../lib/redis/wire/resp-channel.js';
import { useServers } from '../support/command-bench.js';
import { clientWithEncodedBytes, clientWithoutCork } from '../support/odd-clients.js';
import { uniqueName } from '../support/redis.js';
import { numbers, sendNumbers, takeTexts } from '../support/streams.js';

const { version } = createRequire(import.meta.url)('ioredis/package.json') as { version: string };
const isAtLeast6 = Number.parseInt(version, 10) >= 6;
const servers = useServers();

/** What a streamer logs. */
class Lines implements RedisStreamsLogger {
  readonly aboutSocket: string[] = [];
  readonly others: string[] = [];
  /** Lines about the socket; the features that a server lacks are reported in the same way. */
  debug = (line: string): void => {
    if (line.includes('socket')) this.aboutSocket.push(line);
  };
  error = (line: string): void => void this.others.push(line);
  warn = (line: string): void => void this.others.push(line);
  log = (line: string): void => void this.others.push(line);
}

const connect = async (connection: RedisStreamsConnection): Promise<[streamer: RedisStreamer, lines: Lines]> => {
  const lines = new Lines();
  return [await RedisStreamer.connect(connection, { blockTimeout: 500, timeout: 10_000, logger: lines }), lines];
};
const channelsOf = ({ connections }: RedisStreamer): unknown[] =>
  (['writer', 'control', 'reader'] as const).flatMap((role) =>
    connections.ofRole(role).map(({ channel }) => channel?.constructor),
  );
/** Sends and reads in each mode over a fresh streamer; returns its log and the classes of its channels. */
const work = async (connection: RedisStreamsConnection): Promise<{ lines: Lines; channels: unknown[] }> => {
  const [opened, lines] = await connect(connection);
  await using streamer = opened;
  const stream = uniqueName('stream');
  const producer = await streamer.createProducer(stream);
  const [mode, group] = ['resumable', 'load-balanced'] as const;
  const consumers = [
    await streamer.createConsumer(stream, { mode: 'real-time' }),
    await streamer.createConsumer(stream, { mode, group: 'r', mkStream: true }),
    await streamer.createConsumer(stream, { mode: group, group: 'l', mkStream: true }),
  ];
  await sendNumbers(producer, 0, 99);
  for (const consumer of consumers) expect(await takeTexts(consumer, 100)).toEqual(numbers(0, 99));
  return { lines, channels: channelsOf(streamer) };
};
const DIRECT_USE = expect.stringContaining('does not offer direct use of the socket');

describe('a client whose socket cannot be used directly', () => {
  it('is used the way of ioredis by every connection, and is reported once, for debugging', async () => {
    const { port } = servers().server;
    const withoutCork = await work(() => clientWithoutCork(port));
    expect(withoutCork.channels).toEqual([...Array(5)].map(() => IoredisChannel));
    expect(withoutCork.lines.aboutSocket).toEqual([DIRECT_USE]);
    expect(withoutCork.lines.others).toEqual([]);
  });

  it('is replaced when the self-test has failed, without a warning, and its successor is used the way of ioredis', async () => {
    const { port } = await servers().encoding();
    let clients = 0;
    const encoded = await work(() => {
      clients += 1;
      return clientWithEncodedBytes(port);
    });
    expect(encoded.channels).toEqual([...Array(5)].map(() => IoredisChannel));
    expect(encoded.lines.aboutSocket).toEqual([DIRECT_USE]);
    expect(encoded.lines.others).toEqual([]);
    expect(clients).toBe(10);
  });

  it('stays on the way of ioredis after its connection was lost', async () => {
    const { port } = await servers().encoding();
    let clients = 0;
    const [opened] = await connect(() => {
      clients += 1;
      return clientWithEncodedBytes(port);
    });
    await using streamer = opened;
    const before = clients;
    const stream = uniqueName('stream');
    const producer = await streamer.createProducer(stream);
    await producer.send('a');
    await servers().admin.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes');
    await producer.send('b');
    expect(streamer.connections.ofRole('writer').map(({ channel }) => channel?.constructor)).toEqual([IoredisChannel]);
    await streamer.createManager().then((manager) => manager.scan());
    expect(clients).toBe(before + 2);
  });
});

describe('a client that the application has used', () => {
  it('is taken over when its commands have their replies', async () => {
    const { url } = servers().server;
    const key = uniqueName('key');
    const replies: Array<Promise<unknown>> = [];
    const { channels, lines } = await work(() => {
      const client = new Redis(url);
      for (let n = 0; n < 50; n += 1) replies.push(client.incr(key));
      return client;
    });
    expect(channels).toEqual([...Array(5)].map(() => RespChannel));
    expect(lines.aboutSocket).toEqual([]);
    expect(await Promise.all(replies)).toHaveLength(250);
    expect(await servers().admin.get(key)).toBe('250');
  });

  it('and that speaks RESP3 is read as RESP2 from the take-over on', async () => {
    const { url } = servers().server;
    const versions = new Set<unknown>();
    const { channels } = await work(() => {
      const client = new Redis(url);
      versions.add((client.options as { protocol?: number }).protocol);
      return client;
    });
    expect(channels).toEqual([...Array(5)].map(() => RespChannel));
    // The documented form: ioredis 6 has asked for RESP3 when this package gets the client.
    expect([...versions]).toEqual([isAtLeast6 ? 3 : undefined]);
  });
});
