import { describe, expect, it } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { ReadRotation } from '../../lib/engine/consuming/reading/read-rotation.js';

const partitions = ['a', 'b', 'c'].map((key) => new Partition(key, 0, key));

/** A read as planned: the keys, COUNT, and BLOCK. */
function turnOf(rotation: ReadRotation, credit: number, found = 0): [keys: string, count: number, block?: number] {
  const turn = rotation.plan(partitions, { credit, batchSize: 10, block: 1_000 });
  rotation.note(turn.partitions.length, found);
  return [turn.partitions.map(({ key }) => key).join(''), turn.count, turn.block as number];
}

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
});
