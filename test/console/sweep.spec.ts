import { describe, expect, it } from '@jest/globals';
import { ConnectionError } from '../../lib/index.js';
import type { StreamManager } from '../../lib/index.js';
import { KnownStreams } from '../../packages/console/src/known-streams.js';
import { LagHistory } from '../../packages/console/src/live/lag-history.js';
import { StreamSweep } from '../../packages/console/src/live/stream-sweep.js';
import type { Snapshot } from '../../packages/console/src/live/stream-sweep.js';
import { StreamPolicy } from '../../packages/console/src/stream-policy.js';

/** A cluster, of which nodes can be away: those of the keys that match. */
class Nodes {
  away = /^$/;
  asked = 0;
  readonly #sweep: StreamSweep;

  constructor(streams: string[]) {
    const info = async (streamKey: string): Promise<unknown> => {
      this.asked += 1;
      if (this.away.test(streamKey)) throw new ConnectionError('The node is away');
      return { streamKey, length: 1, shards: [{}], groups: [], entriesAdded: 1, unreachable: [] };
    };
    const manager = { info } as unknown as StreamManager;
    const source = { manager: async () => manager, streams: new KnownStreams(async () => manager) };
    this.#sweep = new StreamSweep(source, new StreamPolicy({ streams }), new LagHistory(1));
  }

  look(): Promise<Snapshot> {
    const { signal } = new AbortController();
    return this.#sweep.look({ signal, progress: () => undefined, publish: () => undefined });
  }
}

const figures = ({ rows }: Snapshot): unknown[] =>
  rows
    .map(({ stream, length, deadLetters, failure }) => [stream, length, deadLetters, failure])
    .sort((one, other) => String(one).localeCompare(String(other)));

describe('the list of streams', () => {
  it('has the streams that can be read, and marks those that cannot, with the reason', async () => {
    const nodes = new Nodes(['a', 'b', 'c']);
    nodes.away = /^b$|^c\.dead$/;
    expect(figures(await nodes.look())).toEqual([
      ['a', 1, 1, null],
      ['b', null, null, 'The node is away'],
      ['c', 1, null, null],
    ]);
    nodes.away = /^$/;
    expect(figures(await nodes.look())).toEqual(['a', 'b', 'c'].map((stream) => [stream, 1, 1, null]));
  });

  it('of a Redis that is away fails, and does not ask for each of many streams', async () => {
    const nodes = new Nodes(Array.from({ length: 1_000 }, (_, n) => `s${n}`));
    nodes.away = /./;
    await expect(nodes.look()).rejects.toThrow('The node is away');
    expect(nodes.asked).toBeLessThan(50);
    nodes.away = /^$/;
    const { rows } = await nodes.look();
    expect([rows.length, rows.filter(({ failure }) => failure !== null).length]).toEqual([1_000, 0]);
  });

  it('asks for few of the streams that could not be read, until one of them can', async () => {
    const nodes = new Nodes(Array.from({ length: 400 }, (_, n) => `s${n}`));
    nodes.away = /^s\d*7(?:\.dead)?$/;
    const marked = async (): Promise<number> =>
      (await nodes.look()).rows.filter(({ failure }) => failure !== null).length;
    expect(await marked()).toBe(40);
    nodes.asked = 0;
    expect(await marked()).toBe(40);
    expect(nodes.asked).toBe(2 * 360 + 8);
    nodes.away = /^$/;
    expect(await marked()).toBe(0);
  });
});
