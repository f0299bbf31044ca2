import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext, runInThisContext } from 'node:vm';

import type { RedisStreamer } from '../../lib/index.js';
import { FaultBench } from '../support/fault-bench.js';
import { GROUP, GroupWork, duplicatePayloads, storedEntries } from '../support/group-work.js';
import { useLoad } from '../support/load.js';
import { useTally } from '../support/tally.js';
import { rounds } from '../support/test-redis.js';
import { until } from '../support/until.js';

/** On a busy machine a loss takes half a second. */
const LIMIT = 900_000;
const LOSSES = rounds(500, 10);
const MAX_BATCH = 20;
/** The allowed growth in megabytes, over the second half of the losses. */
const MOST_GROWTH = 8;
const CONSUMERS = ['c0', 'c1'];

const tally = useTally();
const keepSending = useLoad();
const bench = new FaultBench();
/** Tests get a copy of `process` from Jest, which emits no warnings of too many listeners. */
const realProcess = runInThisContext('process') as NodeJS.Process;
const warnings: Error[] = [];
const onWarning = (warning: Error): void => {
  if (warning.name === 'MaxListenersExceededWarning') warnings.push(warning);
};

beforeEach(() => {
  warnings.length = 0;
  realProcess.on('warning', onWarning);
});
afterEach(() => {
  realProcess.off('warning', onWarning);
});

/** The number of timers and sockets that keep this process alive. */
const handles = (): number => process.getActiveResourcesInfo().filter((name) => /Timeout|TCP/.test(name)).length;

setFlagsFromString('--expose_gc');
const collectGarbage = runInNewContext('gc') as () => void;

/** Used heap in megabytes. */
function heap(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed / 2 ** 20;
}

function listeners({ connections }: RedisStreamer): number[] {
  return [connections, ...connections.ofRole('writer'), ...connections.ofRole('control')].flatMap((emitter) =>
    emitter.eventNames().map((name) => emitter.listenerCount(name as never)),
  );
}

/** Resolves as soon as all connections are back after the given number of losses. */
async function untilBack(streamer: RedisStreamer, losses: number): Promise<void> {
  const isBack = (): boolean => streamer.status === 'connected' && streamer.connections.reconnects >= losses;
  while (!isBack()) await once(streamer, 'status');
}

it(
  'losses of every connection, again and again, each as soon as all are back, lose no message and leak nothing',
  async () => {
    const redis = await bench.redis({ isDurable: false });
    const admin = redis.client();
    const streams = await redis.spread('s');
    const proxy = await redis.proxies(streams);
    const work = new GroupWork();
    const streamer = await bench.streamer(proxy.connection);
    for (const consumer of CONSUMERS) await work.join(streamer, streams, { consumer });
    const producer = await streamer.createGenericProducer({ maxBatch: MAX_BATCH });
    for (const n of streams.keys()) await work.senderTo(producer, streams, 'first')(n);
    await work.settled(admin, streams);
    // On each server a writer, a control connection, and one reader for each consumer.
    const connections = streams.length * (2 + CONSUMERS.length);
    const [listenersBefore, handlesBefore] = [listeners(streamer), handles()];

    const load = keepSending(work.senderTo(producer, streams), 200);
    await work.moreHandled(200);
    let cuts = 0;
    let heapInTheMiddle = 0;
    for (let loss = 0; loss < LOSSES; loss += 1) {
      // After every tenth loss the test waits for messages; otherwise it cuts again at once.
      if (loss % 10 === 0) await work.moreHandled(5);
      if (loss === LOSSES / 2) heapInTheMiddle = heap();
      cuts += proxy.cut(loss % 2 === 0 ? 'rst' : 'fin');
      await untilBack(streamer, cuts);
    }
    await work.moreHandled(200);
    await load.stop();

    const outcome = await work.settled(admin, streams);
    tally(work.counts(cuts, outcome));
    expect(outcome.lost).toEqual([]);
    expect(outcome.handledAgain).toEqual([]);
    expect(work.ledger.failures).toEqual(new Map());
    const again = duplicatePayloads(await storedEntries(admin, streams));
    expect(outcome.duplicates).toBe(again.length);
    expect(again.length).toBeLessThanOrEqual(LOSSES * MAX_BATCH);

    expect(cuts).toBe(LOSSES * connections);
    expect(streamer.connections.reconnects).toBe(cuts);
    expect(heap() - heapInTheMiddle).toBeLessThan(MOST_GROWTH);
    expect(listeners(streamer)).toEqual(listenersBefore);
    expect(warnings).toEqual([]);
    await until('no timer and no socket is left', () => handles() <= handlesBefore);
    for (const stream of streams) expect(await admin.xinfo('CONSUMERS', stream, GROUP)).toHaveLength(CONSUMERS.length);
    expect(await redis.connections()).toBe(connections);
  },
  LIMIT,
);
