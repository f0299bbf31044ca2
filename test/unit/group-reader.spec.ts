import { describe, expect, it } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { GroupReader } from '../../lib/engine/consuming/reading/group-reader.js';
import type { GroupReaderOptions } from '../../lib/engine/consuming/reading/group-reader.js';
import type { ReadPage } from '../../lib/engine/consuming/reading/stream-reader.js';
import { Claims } from '../../lib/engine/consuming/recovery/claims.js';
import type { ClaimsOptions } from '../../lib/engine/consuming/recovery/claims.js';
import type { PendingEntry, StreamPage } from '../../lib/redis/commands/stream-commands.js';

const never = (): never => {
  throw new Error('not expected');
};

/** A reader of partitions that have two pending entries each, which an earlier process has left. */
class Scene {
  readonly partitions = ['a', 'b', 'c'].map((key) => new Partition(key, 0, key));
  /** Keys that were looked at. */
  readonly looks: string[] = [];
  /** Keys of which no entry can be claimed. */
  readonly failing = new Set<string>();
  /** Of each read of new entries: whether it expected several. */
  readonly expectations: Array<boolean | undefined> = [];
  /** What the next reads of new entries find in the first stream, or why they fail. */
  readonly reads: Array<number | Error> = [];
  readonly #reader: GroupReader;

  constructor(noAck = false) {
    const logger = { log: never, warn: never, error: never, debug: never };
    const claimed: ClaimsOptions['pending'] = {
      claimOwn: async (key, _group, _consumer, wanted) => {
        if (this.failing.has(key)) throw new Error(`no claim of ${key}`);
        return { entries: wanted.map(({ id, deliveryCount }) => ({ id, fields: [], deliveryCount })), deleted: [] };
      },
      claimIdle: never,
      takeIdle: never,
      restore: never,
      setIdle: never,
      ack: async () => 0,
    };
    const names = { group: 'g', consumer: 'me', noAck, logger };
    const options: GroupReaderOptions = {
      ...names,
      reading: { readGroup: async ({ expectsSeveral }) => this.#readGroup(expectsSeveral) },
      control: { streamInfo: never },
      groups: { createGroup: never, groups: never },
      pending: { pending: async (key, _group, { after }) => this.#pending(key, after), restore: never },
      claims: new Claims({ ...names, pending: claimed, countsStarts: false }),
      autoStreamReset: 'earliest',
      mkStream: true,
      epoch: () => 1,
      blockTimeout: 1_000,
    };
    this.#reader = new GroupReader(options);
  }

  /** Whether the next read of the first partition may be sent while a page arrives. */
  get mayReadAhead(): boolean {
    return this.#reader.mayReadAhead(this.partitions.slice(0, 1));
  }

  /** One read: keys with the ids that were found. @param isAhead a page still arrives */
  async read(credit: number, isAhead = false): Promise<string[]> {
    const pages = await this.#reader.read(this.partitions, { credit, batchSize: 10, block: 1_000, isAhead });
    this.#own(pages);
    return pages.map(({ partition, entries }) => [partition.key, ...entries.map(({ id }) => id)].join(' '));
  }

  #readGroup(expectsSeveral: boolean | undefined): StreamPage[] {
    this.expectations.push(expectsSeveral);
    const read = this.reads.shift() ?? 0;
    if (read instanceof Error) throw read;
    const entries = Array.from({ length: read }, (_, at) => ({ id: `9-${at}`, fields: [], deliveryCount: 1 }));
    return read > 0 ? [{ streamKey: 'a', entries }] : [];
  }

  #own(pages: readonly ReadPage[]): void {
    for (const { partition, entries } of pages) for (const { id } of entries) partition.owned.set(id, 'buffered');
  }

  #pending(key: string, after = '0-0'): PendingEntry[] {
    this.looks.push(key);
    return ['1-0', '2-0'].filter((id) => id > after).map((id) => ({ id, consumer: 'me', idle: 0, deliveryCount: 1 }));
  }
}

describe('group reader: entries that an earlier process has left', () => {
  it('are recovered of many partitions by one look at each', async () => {
    const scene = new Scene();
    expect(await scene.read(100)).toEqual(['a 1-0 2-0', 'b 1-0 2-0', 'c 1-0 2-0']);
    expect(scene.looks).toEqual(['a', 'b', 'c']);
    expect(await scene.read(100)).toEqual([]);
    expect(scene.looks).toEqual(['a', 'b', 'c']);
  });

  it('are at most as many as there are places; the others follow', async () => {
    const scene = new Scene();
    expect(await scene.read(3)).toEqual(['a 1-0 2-0', 'b 1-0']);
    expect(await scene.read(1)).toEqual(['b 2-0']);
    expect(await scene.read(3)).toEqual(['c 1-0 2-0']);
    expect(await scene.read(3)).toEqual([]);
  });

  it('are not lost when those of another partition cannot be claimed', async () => {
    const scene = new Scene();
    scene.failing.add('b');
    expect(await scene.read(100)).toEqual(['a 1-0 2-0', 'c 1-0 2-0']);
    await expect(scene.read(100)).rejects.toThrow('no claim of b');
    scene.failing.clear();
    expect(await scene.read(100)).toEqual(['b 1-0 2-0']);
  });

  it('are not looked for while a page is arriving, because its entries would be recovered twice', async () => {
    const scene = new Scene();
    expect(scene.mayReadAhead).toBe(false);
    expect(await scene.read(100, true)).toEqual([]);
    expect(scene.looks).toEqual([]);
    await scene.read(100);
    expect(await scene.read(100)).toEqual([]);
    expect(scene.mayReadAhead).toBe(true);
  });
});

describe('group reader: a page of several entries', () => {
  const recovered = async (noAck = false): Promise<Scene> => {
    const scene = new Scene(noAck);
    await scene.read(100);
    await scene.read(100);
    scene.expectations.length = 0;
    return scene;
  };

  it('makes the next read expect several', async () => {
    const scene = await recovered();
    scene.reads.push(4, 1);
    for (let read = 0; read < 3; read += 1) await scene.read(100);
    expect(scene.expectations).toEqual([false, true, false]);
  });

  it('does not with NOACK: what a second command found for a connection that is gone would be lost', async () => {
    const scene = await recovered(true);
    scene.reads.push(4, 4);
    for (let read = 0; read < 3; read += 1) await scene.read(100);
    expect(scene.expectations).toEqual([false, false, false]);
  });

  it('makes the reader look at its pending entries when the next read fails', async () => {
    const scene = await recovered();
    scene.reads.push(4, new Error('NOGROUP none'));
    await scene.read(100);
    scene.looks.length = 0;
    await expect(scene.read(100)).rejects.toThrow('NOGROUP');
    await scene.read(100);
    expect(scene.looks).toEqual(['a', 'b', 'c']);
  });
});
