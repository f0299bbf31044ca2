import { describe, expect, it } from '@jest/globals';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { ReadRotation } from '../../lib/engine/consuming/reading/stream-reader.js';

const streams = ['a', 'b', 'c'].map((key) => new Partition(key, 0, key));

/** What a turn asks for: the keys, how many of each, and how long it waits. */
function turnOf(rotation: ReadRotation, credit: number, found = 0): [keys: string, count: number, block?: number] {
  const turn = rotation.plan(streams, { credit, batchSize: 10, block: 1_000 });
  rotation.note(turn.streams.length, found);
  return [turn.streams.map(({ key }) => key).join(''), turn.count, turn.block as number];
}

describe('the rotation of streams', () => {
  it('asks all of them where there is a place for each, and divides the places', () => {
    const rotation = new ReadRotation();
    expect(turnOf(rotation, 9)).toEqual(['abc', 3, 1_000]);
    expect(turnOf(rotation, 5)).toEqual(['abc', 1, 1_000]);
    expect(turnOf(rotation, 100)).toEqual(['abc', 10, 1_000]);
  });

  it('asks as many as there are places, each in its turn', () => {
    const rotation = new ReadRotation();
    const keys = Array.from({ length: 4 }, () => turnOf(rotation, 2, 1)[0]);
    expect(keys).toEqual(['ab', 'ca', 'bc', 'ab']);
  });

  it('waits only when none of them had anything the last time, and not for long', () => {
    const rotation = new ReadRotation();
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBe(100);
    expect(turnOf(rotation, 2, 1)[2]).toBe(100);
    // One had something, so there may be more of it.
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBeUndefined();
    expect(turnOf(rotation, 2)[2]).toBe(100);
  });
});
