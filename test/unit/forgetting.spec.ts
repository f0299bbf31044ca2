import { runInNewContext } from 'node:vm';
import { setFlagsFromString } from 'node:v8';
import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import type { ConsumerSession } from '../../lib/engine/consuming/consumer-session.js';
import { Partition, PartitionSet, partitionOf } from '../../lib/engine/consuming/partition.js';
import { MessageWithoutReceipt } from '../../lib/engine/messages/outgoing-message.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { KeyHashSharder, RoundRobinSharder } from '../../lib/engine/producing/sharder.js';
import { WritePipeline } from '../../lib/engine/producing/write-pipeline.js';
import { Dispatcher } from '../../lib/engine/settling/dispatcher.js';
import { ConnectionError } from '../../lib/errors.js';
import type { WriteBatch } from '../../lib/redis/commands/stream-commands.js';
import { onceAborted } from '../../lib/shared/abort-listeners.js';
import { SENDER } from '../support/pipeline-bench.js';
import { until } from '../support/until.js';

setFlagsFromString('--expose_gc');
const collectGarbage = runInNewContext('gc') as () => void;

const nothing = (): void => undefined;
const MIB = 1024 * 1024;

/** What remains in memory of some work, in MiB. */
async function remainsOf(work: () => void | Promise<void>): Promise<number> {
  collectGarbage();
  const before = process.memoryUsage().heapUsed;
  await work();
  collectGarbage();
  return (process.memoryUsage().heapUsed - before) / MIB;
}

describe('what is kept by the names of streams is bounded:', () => {
  it.each([
    ['the turns of RoundRobinSharder', new RoundRobinSharder(8)],
    ['the turns of KeyHashSharder for messages without a key', new KeyHashSharder(8)],
  ])('%s, after 1,000,000 streams', async (_name, sharder) => {
    const remains = await remainsOf(() => {
      for (let stream = 0; stream < 1_000_000; stream += 1) sharder.shardOf(`stream ${stream}`, undefined);
    });
    expect(remains).toBeLessThan(10);
    expect(sharder.shardOf('one more', undefined)).toBeLessThan(8);
  });

  it('the queues of a producer, after 100,000 streams', async () => {
    let accepted = 0;
    const pipeline = new WritePipeline({
      writer: {
        wasReached: true,
        laneOf: (streamKey) => `node ${streamKey.length % 3}`,
        canWrite: () => true,
        payloadLimit: () => undefined,
        prepare: async () => undefined,
        write: async ({ requests }: WriteBatch) => requests.map(() => '1-0'),
      },
      delivery: 'at-least-once',
      timeout: 60_000,
      connectTimeout: 10_000,
      maxBatch: 500,
      maxQueued: 1_000,
      maxQueuedBytes: 1_000_000,
      trim: {},
    });
    const send = async (prefix: string): Promise<void> => {
      for (let stream = 0; stream < 100_000; stream += 1) {
        pipeline.push(new MessageWithoutReceipt(SENDER, `${prefix} ${stream}`, '', 1, () => (accepted += 1)));
        if (stream % 500 === 499) await pipeline.flush();
      }
      await turn();
    };
    await send('warm');
    expect(await remainsOf(() => send('stream'))).toBeLessThan(5);
    expect(accepted).toBe(200_000);
    pipeline.close();
  });

  it('partitions that were removed with messages in handlers, once these are acknowledged', () => {
    const partitions = new PartitionSet();
    for (let stream = 0; stream < 1_000; stream += 1) {
      const partition = new Partition(`stream ${stream}`, 0, `stream ${stream}`);
      partition.owned.set('1-0', 'running');
      partitions.remember([partition]);
      partition.owned.delete('1-0');
    }
    expect(partitions.owning).toHaveLength(1);
  });
});

it('a dispatcher forgets a partition whose shard is lost while the delivery of a suspect cannot be counted', async () => {
  let counted = 0;
  const session = {
    environment: { suspectTurn: { enter: () => ({ begin: nothing, end: nothing }), forget: nothing } },
    maxHandlerTime: Infinity,
    buffer: { size: 0, isStarved: false, release: nothing, occupy: nothing },
    acknowledger: {
      countStart: () => {
        counted += 1;
        return Promise.reject(new ConnectionError('an outage'));
      },
    },
    handOutTo: nothing,
    handled: nothing,
    stopReading: () => Promise.resolve(),
    giveBack: () => Promise.resolve(),
    handOut: (): StreamMessage | undefined => undefined,
  };
  const dispatcher = new Dispatcher({
    session: session as unknown as ConsumerSession,
    concurrency: 2,
    deliver: () => Promise.resolve(),
    onFailed: nothing,
    storeDeadLetter: () => Promise.resolve(),
    onError: nothing,
  });
  const lost = await (async (): Promise<WeakRef<Partition>> => {
    const partition = new Partition('s', 0, 's');
    const messages = [
      StreamMessage.create(partition, { id: '1-0', fields: [], deliveryCount: 2, isSuspect: true }, DEFAULTS.streamer),
    ];
    session.handOut = () => messages.shift();
    dispatcher.onArrival();
    await until('it was tried to count it', () => counted === 1 && dispatcher.running === 0);
    const { length } = dispatcher.withdraw((message) => partitionOf(message) === partition);
    expect(length).toBe(1);
    return new WeakRef(partition);
  })();
  session.handOut = () => undefined;
  await until('the partition is forgotten', () => {
    collectGarbage();
    return lost.deref() === undefined;
  });
  expect(counted).toBe(1);
  await dispatcher.close(0);
});

describe('waits for one signal', () => {
  it('are one listener, which goes with the last of them', () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const [add, remove] = [signal.addEventListener, signal.removeEventListener];
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners += 1;
      add.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners -= 1;
      remove.apply(signal, args);
    };
    for (let round = 0; round < 3; round += 1) {
      const stops = Array.from({ length: 50 }, () => onceAborted(signal, () => undefined));
      expect(listeners).toBe(1);
      for (const stop of stops) {
        stop();
        stop();
      }
      expect(listeners).toBe(0);
    }
  });

  it('all end when it aborts, but those that were stopped, also when one stops another', () => {
    const controller = new AbortController();
    const ended: string[] = [];
    const stops: Array<() => void> = [];
    stops.push(onceAborted(controller.signal, () => ended.push('a')));
    stops.push(
      onceAborted(controller.signal, () => {
        ended.push('b');
        for (const stop of stops) stop();
      }),
    );
    stops.push(onceAborted(controller.signal, () => ended.push('stopped by another')));
    onceAborted(controller.signal, () => ended.push('stopped before'))();
    controller.abort();
    expect(ended).toEqual(['a', 'b']);
  });
});
