import { describe, expect, it } from '@jest/globals';

import type { StreamManager } from '../../../lib/index.js';
import { uniqueName } from '../../support/redis.js';
import { numbers, sendNumbers, take, texts, useStreams } from '../../support/streams.js';
import { until } from '../../support/until.js';

const streams = useStreams();
const DAY = 86_400_000;

interface Scene {
  readonly stream: string;
  readonly manager: StreamManager;
  /** Reads `count` messages in the name of a group and acknowledges the given ones. */
  read(group: string, count: number, acked: readonly number[]): Promise<void>;
  left(): Promise<string[]>;
}

/** Creates a stream with the messages 1 to 10. */
async function scene(): Promise<Scene> {
  const stream = uniqueName('retention');
  const streamer = await streams.connect();
  const manager = await streamer.createManager();
  await sendNumbers(await streamer.createProducer(stream), 1, 10);
  return {
    stream,
    manager,
    async read(group, count, acked) {
      await streams.redis.xgroup('CREATE', stream, group, '0').catch(() => undefined);
      const reply = await streams.redis.xreadgroup('GROUP', group, 'c', 'COUNT', count, 'STREAMS', stream, '>');
      const [, entries] = (reply as Array<[string, Array<[string, string[]]>]>)[0] as [
        string,
        Array<[string, string[]]>,
      ];
      const ids = entries.filter(([, fields]) => acked.includes(Number(fields[1]))).map(([id]) => id);
      if (ids.length > 0) await streams.redis.xack(stream, group, ...ids);
    },
    left: async () => texts(await manager.range(stream, '-', '+')),
  };
}

const all = (last: number): number[] => Array.from({ length: last }, (_, index) => index + 1);

/** Newer servers also delete acknowledged entries after a pending entry. */
async function knowsAcked(): Promise<boolean> {
  await streams.redis.xadd('probe', '*', 'msg', '');
  const reply = await streams.redis.call('XTRIM', 'probe', 'MAXLEN', '=', '1', 'ACKED').catch(String);
  return reply === 0;
}

describe('trimming entries that every group has acknowledged', () => {
  it('deletes these entries and nothing else', async () => {
    const { stream, manager, read, left } = await scene();
    await read('fast', 10, all(10));
    await read('slow', 4, all(4));

    const result = await manager.trimAcknowledged(stream);
    expect(result).toMatchObject({ streamKey: stream, trimmed: 4, keptFor: 'slow', deadGroups: [] });
    expect(await left()).toEqual(numbers(5, 10));
    expect(await manager.trimAcknowledged(stream)).toMatchObject({ trimmed: 0 });
  });

  it('keeps entries that are pending in any group, however old', async () => {
    const { stream, manager, read, left } = await scene();
    await read('one', 10, [1, 2, 3, 5, 6, 7, 8, 9, 10]);
    await read('two', 10, [1, 3, 4, 5, 6, 7, 8, 9, 10]);

    await manager.trimAcknowledged(stream);
    expect(await left()).toEqual((await knowsAcked()) ? ['2', '4'] : numbers(2, 10));
  });

  it('deletes nothing when one group has read nothing, and nothing of a stream without groups', async () => {
    const { stream, manager, read, left } = await scene();
    expect(await manager.trimAcknowledged(stream)).toMatchObject({ trimmed: 0, firstKept: undefined });
    await read('done', 10, all(10));
    await streams.redis.xgroup('CREATE', stream, 'new', '0');
    const ignoring = { deadGroups: 'ignore', deadAfter: 1_000 } as const;
    expect(await manager.trimAcknowledged(stream, ignoring)).toMatchObject({ trimmed: 0, keptFor: 'new' });
    expect(await left()).toHaveLength(10);
    expect(await manager.trimAcknowledged('nothing')).toMatchObject({ trimmed: 0, firstKept: undefined });
  });

  it('keeps acknowledged entries until keepFor has passed', async () => {
    const { stream, manager, read, left } = await scene();
    await read('done', 10, all(10));
    expect(await manager.trimAcknowledged(stream, { keepFor: DAY })).toMatchObject({ trimmed: 0, keptFor: undefined });
    expect(await left()).toHaveLength(10);
  });

  it('only reports in a dry run', async () => {
    const { stream, manager, read, left } = await scene();
    await read('one', 10, all(7));
    expect(await manager.trimAcknowledged(stream, { dryRun: true })).toMatchObject({ trimmed: 7, keptFor: 'one' });
    expect(await left()).toHaveLength(10);
  });

  it('counts a backlog of many pages, and deletes it in steps', async () => {
    const { stream, manager } = await scene();
    const script = "for i = 1, tonumber(ARGV[1]) do redis.call('XADD', KEYS[1], '*', 'msg', i) end";
    for (let turn = 0; turn < 5; turn += 1) await streams.redis.eval(script, 1, stream, 7_000);
    await streams.redis.xgroup('CREATE', stream, 'g', '$');

    expect(await manager.trimAcknowledged(stream, { dryRun: true })).toMatchObject({ trimmed: 35_010 });
    expect(await manager.trimAcknowledged(stream)).toMatchObject({ trimmed: 35_010 });
    expect(await streams.redis.xlen(stream)).toBe(0);
  });

  it('waits for a dead group forever, unless deadGroups is ignore', async () => {
    const { stream, manager, read, left } = await scene();
    await read('alive', 10, all(10));
    await read('dead', 3, [1]);
    await until('these are older than deadAfter', async () => {
      const [[last]] = (await streams.redis.xrevrange(stream, '+', '-', 'COUNT', 1)) as [[string, string[]]];
      const [seconds, microseconds] = (await streams.redis.time()).map(Number) as [number, number];
      return seconds * 1_000 + microseconds / 1_000 - Number(last.split('-')[0]) > 1_050;
    });
    await sendNumbers(await (await streams.connect()).createProducer(stream), 11, 12);
    await read('alive', 2, [11, 12]);

    expect(await manager.trimAcknowledged(stream)).toMatchObject({ trimmed: 1, keptFor: 'dead' });
    const ignoring = { deadGroups: 'ignore', deadAfter: 1_000 } as const;
    expect(await manager.trimAcknowledged(stream, ignoring)).toMatchObject({ trimmed: 9, deadGroups: ['dead'] });
    // The dead group has not handled these either, but they are younger than deadAfter.
    expect(await left()).toEqual(['11', '12']);
  });

  it('runs in consumers with the option retention, and every message is handled', async () => {
    const { stream, left } = await scene();
    const streamer = await streams.connect();
    const consumer = await streamer.createConsumer(stream, {
      mode: 'load-balanced',
      group: 'g',
      autoCommit: 'rolling',
      autoCommitInterval: 0,
      autoStreamReset: 'earliest',
      retention: { interval: 100 },
    });
    const messages = await take(consumer, 10);
    expect(texts(messages)).toEqual(numbers(1, 10));
    for (const message of messages.slice(0, 9)) consumer.ack(message);
    await until('acknowledged entries are deleted', async () => (await left()).length === 1);
    expect(await left()).toEqual(['10']);
  });

  it('refuses invalid options before any I/O', async () => {
    const { stream, manager } = await scene();
    await expect(manager.trimAcknowledged(stream, { keepFor: -1 })).rejects.toThrow('options.keepFor');
    const streamer = await streams.connect();
    const consumer = { mode: 'resumable', group: 'g', retention: { deadGroups: 'drop' as 'keep' } } as const;
    await expect(streamer.createConsumer(stream, consumer)).rejects.toThrow('retention.deadGroups');
  });
});
