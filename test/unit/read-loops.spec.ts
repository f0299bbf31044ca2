import { afterEach, describe, expect, it } from '@jest/globals';
import type { ConsumerEnvironment, ReaderConnection } from '../../lib/engine/consuming/consumer-environment.js';
import { MessageBuffer } from '../../lib/engine/consuming/message-buffer.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { ReadLoops } from '../../lib/engine/consuming/reading/read-loops.js';
import { resolveConsumerOptions } from '../../lib/engine/options/resolve-options.js';
import { ConsumerEndedError } from '../../lib/errors.js';
import { withResolvers } from '../../lib/shared/deferred.js';
import { until } from '../support/until.js';

const [a, b, c] = ['a', 'b', 'c'].map((key) => new Partition(key, 0, key)) as [Partition, Partition, Partition];

/** Read loops whose reader connections are fakes: a read blocks until it is interrupted. */
class Scene {
  readonly opened: Array<string | undefined> = [];
  readonly released: Array<string | undefined> = [];
  /** The streams of the read that each connection has in flight. */
  readonly reading = new Map<string | undefined, string[]>();
  readonly buffer = new MessageBuffer<never>(10, 5);
  refused: string | undefined;
  readonly loops: ReadLoops;

  constructor(isCluster: boolean) {
    const environment = {
      control: {
        reading: {
          streamInfo: async (key: string) => {
            if (key === this.refused) throw new Error('refused');
            return undefined;
          },
        },
      },
      controlLiveSince: () => 0,
      openReader: (streamKey: string | undefined) => this.#openReader(streamKey),
      isCluster: () => isCluster,
      blockTimeout: 1_000,
    } as unknown as ConsumerEnvironment;
    this.loops = new ReadLoops({
      countsStarts: false,
      environment,
      consumer: resolveConsumerOptions({ mode: 'real-time' }),
      buffer: this.buffer,
      listener: {
        onPages: () => undefined,
        onPartitionFailure: () => undefined,
        onError: () => undefined,
        onTakenAway: () => undefined,
      },
    });
  }

  async open(...partitions: Partition[]): Promise<void> {
    await this.loops.open(partitions, false);
    await this.loops.assign(partitions);
  }

  async untilReading(...expected: string[][]): Promise<void> {
    const textOf = (reads: string[][]): string =>
      reads
        .map((keys) => keys.join())
        .sort()
        .join(' ');
    const wanted = textOf(expected);
    await until(`reads are in flight: ${wanted}`, () => textOf([...this.reading.values()]) === wanted);
  }

  #openReader(streamKey: string | undefined): ReaderConnection {
    this.opened.push(streamKey);
    let read = withResolvers<never[]>();
    const end = (): void => {
      this.reading.delete(streamKey);
      read.resolve([]);
    };
    return {
      connection: {
        epoch: 1,
        reconnects: 0,
        liveSince: 0,
        ready: async () => undefined,
        drop: () => undefined,
        close: async () => end(),
      },
      reading: {
        read: ({ positions }: { positions: ReadonlyArray<readonly [string, string]> }) => {
          this.reading.set(
            streamKey,
            positions.map(([key]) => key),
          );
          read = withResolvers<never[]>();
          return read.promise;
        },
      },
      interrupt: { isPossible: true, interrupt: async () => end() },
      release: async () => {
        this.released.push(streamKey);
      },
    } as unknown as ReaderConnection;
  }
}

let scene: Scene;
afterEach(async () => {
  await scene.loops.stop();
});

describe('read loops', () => {
  it('outside of Cluster: one loop on one connection reads all partitions, also after a change', async () => {
    scene = new Scene(false);
    await scene.open(a, b);
    await scene.untilReading(['a', 'b']);
    await scene.open(b, c);
    await scene.untilReading(['b', 'c']);

    expect(scene.opened).toEqual([undefined]);
    expect(scene.released).toEqual([]);
    expect(scene.loops.reports().map(({ partitions }) => partitions)).toEqual([[b, c]]);
  });

  it('in Cluster: every partition has a loop and a connection of its own, from open() until it is removed', async () => {
    scene = new Scene(true);
    await scene.open(a, b);
    await scene.untilReading(['a'], ['b']);
    expect(scene.opened).toEqual(['a', 'b']);

    await scene.open(b, c);
    await scene.untilReading(['b'], ['c']);
    expect(scene.opened).toEqual(['a', 'b', 'c']);
    expect(scene.released).toEqual(['a']);
    expect(scene.loops.reports().map(({ partitions }) => partitions)).toEqual([[b], [c]]);
  });

  it('in Cluster: a partition that cannot be opened leaves no connection behind', async () => {
    scene = new Scene(true);
    await scene.open(a);
    scene.refused = 'b';
    await expect(scene.open(b)).rejects.toThrow('refused');
    expect(scene.released).toEqual(['b']);
    await scene.untilReading(['a']);
  });

  it('after stop() no loop is created, and release() closes every connection', async () => {
    scene = new Scene(true);
    await scene.open(a, b);
    await scene.loops.stop();
    await expect(scene.open(c)).rejects.toThrow(ConsumerEndedError);
    await scene.loops.release();
    expect(scene.opened).toEqual(['a', 'b']);
    expect(scene.released).toEqual(['a', 'b']);
    expect(scene.reading.size).toBe(0);
  });
});
