import { describe, expect, it } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import type { ReadBudget } from '../../lib/engine/consuming/reading/stream-reader.js';
import { ReadRotation, fullPage, placesFor } from '../../lib/engine/consuming/reading/read-rotation.js';

const partitions = ['a', 'b', 'c'].map((key) => new Partition(key, 0, key));

/** So many entries of each partition. */
function pagesOf(read: readonly Partition[], entries: number): Map<string, unknown[]> {
  return new Map(read.map(({ key }) => [key, Array.from({ length: entries })]));
}

/** A read as planned: the keys, COUNT, and BLOCK. The first of them is found to have so many entries. */
function turnOf(rotation: ReadRotation, credit: number, found = 0): [keys: string, count: number, block?: number] {
  const turn = rotation.plan(partitions, { credit, batchSize: 10, block: 1_000 });
  const [first] = turn.partitions as [Partition];
  rotation.note(turn, found > 0 ? pagesOf([first], found) : new Map());
  return [turn.partitions.map(({ key }) => key).join(''), turn.count, turn.block as number];
}

describe('entries that a read may return', () => {
  it.each([
    ['a batch of each', 3, 100, 1_000, false, 300],
    ['at most the credit', 3, 100, 250, false, 250],
    ['after a full page all but a batch', 3, 100, 350, true, 250],
    ['after a full page a batch, where the credit has no two', 3, 100, 150, true, 100],
    ['after a full page the credit, where it is less than a batch', 3, 100, 60, true, 60],
    ['after a full page all it can, where a batch has few entries for each', 4, 100, 350, true, 350],
  ])('%s', (_, partitions, batchSize, credit, wasFull, places) => {
    expect(placesFor(partitions, { credit, batchSize }, wasFull)).toBe(places);
  });

  it.each([
    ['a batch', 8, 500, 1_000, 500],
    ['what COUNT can return of the places', 8, 500, 500, 496],
    ['all places, where they are fewer than the partitions', 8, 500, 5, 5],
  ])('make a full page: %s', (_, partitions, batchSize, places, entries) => {
    expect(fullPage(partitions, batchSize, places)).toBe(entries);
  });
});

describe('read rotation', () => {
  it('asks every partition when there is a place for each, and divides the places among them', () => {
    const rotation = new ReadRotation();
    expect(turnOf(rotation, 9)).toEqual(['abc', 3, 1_000]);
    expect(turnOf(rotation, 5)).toEqual(['abc', 1, 1_000]);
    expect(turnOf(rotation, 100)).toEqual(['abc', 10, 1_000]);
  });

  it('asks as many partitions as there are places, each in its turn', () => {
    const rotation = new ReadRotation();
    const keys = Array.from({ length: 4 }, () => turnOf(rotation, 2, 1)[0]);
    expect(keys).toEqual(['ab', 'ca', 'bc', 'ab']);
  });

  it('with fewer places, blocks only when every partition was empty at its last turn, and at most 100 ms', () => {
    const rotation = new ReadRotation();
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBe(100);
    expect(turnOf(rotation, 2, 1)[2]).toBe(100);
    // One partition had entries, so it may have more.
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBe(100);
  });

  describe('expects several entries', () => {
    const budget = { credit: 100, batchSize: 10, block: 1_000 };
    const expects = (found: number, of = partitions.slice(0, 1)): boolean => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(of, budget), found > 0 ? pagesOf(of.slice(0, 1), found) : new Map());
      return rotation.plan(of, budget).expectsSeveral;
    };

    it('after a read that found some, and not so many as it asked for', () => {
      expect([0, 1, 3, 4, 9, 10].map((found) => expects(found))).toEqual([false, false, false, true, true, false]);
    });

    it.each<[name: string, change: Partial<ReadBudget>]>([
      ['does not wait', { block: undefined }],
      ['has a place for one entry of each only', { credit: 3 }],
      ['is sent while the last page is still arriving', { isAhead: true }],
    ])('not when the read %s', (_, change) => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(partitions, budget), pagesOf(partitions, 2));
      expect(rotation.plan(partitions, { ...budget, ...change }).expectsSeveral).toBe(false);
    });

    it('when a partition that had more is not read any more', () => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(partitions, budget), pagesOf(partitions.slice(0, 1), 10));
      expect(rotation.plan(partitions.slice(1), budget).expectsSeveral).toBe(true);
    });

    it('of several partitions together, unless they are many', () => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(partitions, budget), pagesOf(partitions, 2));
      expect(rotation.plan(partitions, budget).expectsSeveral).toBe(true);
      const many = Array.from({ length: 9 }, (_, index) => new Partition(`${index}`, index, `${index}`));
      expect(expects(9, many.slice(0, 8))).toBe(true);
      expect(expects(9, many)).toBe(false);
    });

    it('no longer after a read that found nothing', () => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(partitions, budget), pagesOf(partitions, 2));
      rotation.note(rotation.plan(partitions, budget), new Map());
      expect(rotation.plan(partitions, budget).expectsSeveral).toBe(false);
    });
  });

  describe('of many partitions with few places for each', () => {
    const many = Array.from({ length: 100 }, (_, index) => new Partition(`${index}`, index, `${index}`));
    const budget = { credit: 200, batchSize: 50, block: 1_000 };
    const keysOf = (read: readonly Partition[]): string[] => read.map(({ key }) => key);

    it('asks a part of the busy ones for more entries of each, and the following ones next', () => {
      const rotation = new ReadRotation();
      const all = rotation.plan(many, budget);
      expect([all.partitions.length, all.count, all.block]).toEqual([100, 2, 1_000]);
      rotation.note(all, pagesOf(many, 2));

      const asked: string[] = [];
      for (let read = 0; read < 3; read += 1) {
        const turn = rotation.plan(many, budget);
        expect([turn.partitions.length, turn.count, turn.block]).toEqual([33, 6, undefined]);
        rotation.note(turn, pagesOf(turn.partitions, 6));
        asked.push(...keysOf(turn.partitions));
      }
      expect(asked).toEqual(keysOf(many.slice(0, 99)));
    });

    it('asks each quiet one by every read, whatever the others have', () => {
      const rotation = new ReadRotation();
      const [quiet, busy] = [many.slice(0, 10), many.slice(10)];
      rotation.note(rotation.plan(many, budget), pagesOf(busy, 2));

      for (let read = 0; read < 20; read += 1) {
        const turn = rotation.plan(many, budget);
        expect(turn.partitions.length * turn.count).toBeLessThanOrEqual(budget.credit);
        expect(keysOf(turn.partitions)).toEqual(expect.arrayContaining(keysOf(quiet)));
        rotation.note(turn, pagesOf(turn.partitions.slice(quiet.length), turn.count));
      }
    });

    it('asks each busy one within a few reads, also when others become busy and quiet in turn', () => {
      const some = many.slice(0, 64);
      const large = { credit: 1_000, batchSize: 100, block: 1_000 };
      const rotation = new ReadRotation();
      const entries = new Map(some.map(({ key }) => [key, 0]));
      const waits = new Map(some.map(({ key }) => [key, 0]));
      for (let read = 0; read < 300; read += 1) {
        for (const [index, { key }] of some.entries()) {
          if (Math.floor(index / 16) % 3 === read % 3) entries.set(key, (entries.get(key) as number) + 32);
        }
        const turn = rotation.plan(some, large);
        const pages = new Map<string, unknown[]>();
        for (const { key } of some) waits.set(key, (waits.get(key) as number) + 1);
        for (const { key } of turn.partitions) {
          const found = Math.min(entries.get(key) as number, turn.count);
          if (found > 0) pages.set(key, Array.from({ length: found }));
          entries.set(key, (entries.get(key) as number) - found);
          waits.set(key, 0);
        }
        rotation.note(turn, pages);
        expect(Math.max(...waits.values())).toBeLessThanOrEqual(4);
      }
    });

    it('forgets those that are not read any more', () => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(many, budget), pagesOf(many, 2));
      const left = many.slice(50);
      const asked = Array.from({ length: 4 }, () => {
        const turn = rotation.plan(left, budget);
        rotation.note(turn, pagesOf(turn.partitions, turn.count));
        return keysOf(turn.partitions);
      });
      expect([...new Set(asked.flat())].sort()).toEqual(keysOf(left).sort());
    });

    it('asks all of them, and may block, when most are quiet, and when the busy ones have no more', () => {
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(many, budget), pagesOf(many.slice(0, 30), 2));
      expect(rotation.plan(many, budget)).toEqual({ partitions: many, count: 2, block: 1_000, expectsSeveral: false });

      rotation.note(rotation.plan(many, budget), pagesOf(many, 2));
      for (let read = 0; read < 10; read += 1) rotation.note(rotation.plan(many, budget), new Map());
      expect(rotation.plan(many, budget)).toEqual({ partitions: many, count: 2, block: 1_000, expectsSeveral: false });
    });

    it('asks all of them again after one read that found nothing', () => {
      const thousand = Array.from({ length: 1_000 }, (_, index) => new Partition(`${index}`, index, `${index}`));
      const large = { ...budget, credit: 1_000 };
      const rotation = new ReadRotation();
      rotation.note(rotation.plan(thousand, large), pagesOf(thousand, 1));
      const turn = rotation.plan(thousand, large);
      expect(turn.partitions).toHaveLength(32);
      rotation.note(turn, new Map());
      expect(rotation.plan(thousand, large).partitions).toHaveLength(1_000);
    });

    it('asks at least 32, so that a small credit is not filled by a few of them', () => {
      const rotation = new ReadRotation();
      const small = { credit: 60, batchSize: 60, block: undefined };
      for (let read = 0; read < 10; read += 1) {
        const turn = rotation.plan(many, small);
        expect([turn.partitions.length, turn.count]).toEqual([60, 1]);
        rotation.note(turn, pagesOf(turn.partitions, turn.count));
      }
    });
  });
});
