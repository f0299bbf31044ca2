import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { MessageWithoutReceipt } from '../../lib/engine/messages/outgoing-message.js';
import { ConnectionError } from '../../lib/errors.js';
import type { WriteBatch } from '../../lib/redis/commands/stream-commands.js';
import { UnexpectedReply } from '../../lib/redis/wire/resp-reader.js';
import { SENDER, lost, reply, setUpPipeline } from '../support/pipeline-bench.js';
import type { Append } from '../support/pipeline-bench.js';
import { until } from '../support/until.js';

describe('write pipeline', () => {
  it('sends what is pushed in one step as one batch', async () => {
    const { appends, push } = setUpPipeline();
    for (const id of ['1', '2', '3']) push(id);
    expect(appends).toHaveLength(0);
    await turn();
    push('4');
    await turn();

    expect(appends.map(({ ids }) => ids)).toEqual([['1', '2', '3'], ['4']]);
  });

  it('makes batches of messages for one stream, of maxBatch at most, and lets streams take turns', async () => {
    const { appends, push } = setUpPipeline({ maxBatch: 2 });
    for (const id of ['1', '2', '3']) push(id, 'a');
    push('4', 'b');
    push('5', 'a');
    await turn();

    expect(appends.map(({ streamKey, ids }) => [streamKey, ...ids])).toEqual([
      ['a', '1', '2'],
      ['b', '4'],
      ['a', '3', '5'],
    ]);
  });

  it('writes at the end of the step while nothing is in flight, and otherwise at the end of the turn', async () => {
    const { appends, push } = setUpPipeline();
    push('1');
    push('2');
    expect(appends).toEqual([]);
    await Promise.resolve();
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect(appends.map(({ ids }) => ids)).toEqual([['1', '2']]);

    push('3');
    await new Promise<void>((resolve) => process.nextTick(resolve));
    expect(appends).toHaveLength(1);
    push('4');
    await turn();
    expect(appends.map(({ ids }) => ids)).toEqual([
      ['1', '2'],
      ['3', '4'],
    ]);
  });

  it('lets the event loop turn while each send fails without a reply, and its sender sends again', async () => {
    const { pipeline } = setUpPipeline(
      {},
      { canWrite: () => false, prepare: () => Promise.reject(reply('NOAUTH no')) },
    );
    let failures = 0;
    let isOver = false;
    const send = (): void => {
      const onSettled = (): void => {
        failures += 1;
        if (!isOver && failures < 100_000) queueMicrotask(send);
      };
      pipeline.push(new MessageWithoutReceipt(SENDER, 's', '', 1, onSettled));
    };
    send();
    await until('it was sent again', () => failures > 1);
    isOver = true;
    expect(failures).toBeLessThan(100_000);
  });

  it('lets the event loop turn while each message is too large for the server, and its sender sends again at once', async () => {
    const { pipeline } = setUpPipeline({}, { payloadLimit: () => 3 });
    let failures = 0;
    let isOver = false;
    const send = (): void => {
      const onSettled = (): void => {
        failures += 1;
        if (!isOver && failures < 100_000) send();
      };
      pipeline.push(new MessageWithoutReceipt(SENDER, 's', 'four', 4, onSettled));
    };
    send();
    await until('it was sent again', () => failures > 1);
    isOver = true;
    expect(failures).toBeLessThan(100_000);
  });

  it('makes smaller batches of large messages, so that none holds up the server for long', async () => {
    const { appends, push } = setUpPipeline({ maxQueuedBytes: 100_000_000 });
    for (const id of ['1', '2', '3']) push(id, 's', 4_000_000);
    push('4', 's', 20_000_000);
    await turn();

    expect(appends.map(({ ids }) => ids)).toEqual([['1', '2'], ['3'], ['4']]);
  });

  it('has 16 batches in flight at most, and sends the next one when one is back', async () => {
    const { appends, push } = setUpPipeline({ maxBatch: 1 });
    for (let id = 1; id <= 20; id += 1) push(String(id));
    await turn();
    expect(appends).toHaveLength(16);
    appends[1]?.answer();
    await turn();
    expect(appends.map(({ ids }) => Number(ids[0]))).toEqual(Array.from({ length: 17 }, (_, index) => index + 1));
  });

  it('settles each message by its own outcome', async () => {
    const { appends, settled, push } = setUpPipeline();
    for (const id of ['1-*', '2', '3', '4', '*']) push(id);
    await turn();
    const smaller = reply('ERR The ID specified in XADD is equal or smaller than the target stream top item');
    appends[0]?.answer([smaller, '2-0', reply('WRONGTYPE no stream'), reply('ERR odd'), smaller]);
    await turn();

    expect(settled).toEqual([
      '1-*: ERR_TIMESTAMP_REFUSED',
      '2-0',
      '3: ERR_WRONG_TYPE',
      '4: ERR_SEND_FAILED',
      '*: ERR_SEND_FAILED',
    ]);
  });

  it('at-least-once: repeats what was lost, in its old order and before anything newer', async () => {
    const { appends, settled, push } = setUpPipeline({ maxBatch: 1 });
    for (const id of ['1', '2', '3']) push(id);
    await turn();
    // The replies come back in any order.
    appends[2]?.fail(lost());
    appends[0]?.fail(lost());
    push('4');
    await turn();
    expect(appends).toHaveLength(3);
    appends[1]?.fail(lost());

    await until('the lost ones are sent again', () => appends.length === 7);
    expect(appends.slice(3).map(({ ids }) => ids[0])).toEqual(['1', '2', '3', '4']);
    for (const append of appends.slice(3)) append.answer();
    await turn();
    expect(settled).toEqual(['1', '2', '3', '4']);
  });

  it('at-most-once: reports what was lost as uncertain, and does not repeat it', async () => {
    const { appends, settled, push } = setUpPipeline({ delivery: 'at-most-once' });
    push('1');
    await turn();
    appends[0]?.fail(lost());
    await turn();

    expect(settled).toEqual(['1: ERR_SEND_UNCERTAIN']);
    expect(appends).toHaveLength(1);
  });

  it('at-most-once: repeats what the server refused for the moment, because that did nothing', async () => {
    const { appends, settled, push } = setUpPipeline({ delivery: 'at-most-once' });
    push('1');
    await turn();
    appends[0]?.answer([reply('LOADING the dataset')]);
    await until('it is sent again', () => appends.length === 2);
    appends[1]?.answer();
    await turn();

    expect(settled).toEqual(['1']);
  });

  it('gives up when the time is over, and says whether the message may be in the stream', async () => {
    const { appends, settled, push } = setUpPipeline({ timeout: 0 });
    push('1');
    await turn();
    appends[0]?.fail(lost());
    await turn();
    push('2');
    await turn();
    appends[1]?.answer([reply('LOADING the dataset')]);
    await turn();

    expect(settled).toEqual(['1: ERR_SEND_UNCERTAIN', '2: ERR_SEND_FAILED']);
  });

  it('is bounded by count, messages under way included', async () => {
    const { pipeline, appends, push } = setUpPipeline({ maxQueued: 2 });
    push('1');
    push('2');
    expect(() => push('3')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
    await turn();
    expect(pipeline.size).toBe(2);
    expect(() => push('3')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
    appends[0]?.answer();
    await turn();
    expect(pipeline.size).toBe(0);
    push('3');
  });

  it('takes a message of any size while less than half of its bytes are queued, so a producer that waits for room has it', async () => {
    const { pipeline, push } = setUpPipeline({ maxQueuedBytes: 10 });
    push('1', 's', 4);
    expect(pipeline.isBelowLowWater).toBe(true);
    push('2', 's', 9);
    expect(() => push('3')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
  });

  it('gives room to one waiter after the other, so that all of them together do not overfill it', async () => {
    const { pipeline, push } = setUpPipeline(
      { maxQueued: 10 },
      { write: async ({ requests }) => (await turn(), requests.map(({ id }) => id)) },
    );
    let sent = 0;
    const loops = Array.from({ length: 50 }, async () => {
      for (let count = 0; count < 5; count += 1) {
        await pipeline.room();
        push(`${(sent += 1)}`);
      }
    });
    await Promise.all(loops);
    expect(sent).toBe(250);
  });

  it('is bounded by bytes, but takes one message that is larger than all of them', async () => {
    const { appends, push } = setUpPipeline({ maxQueuedBytes: 10 });
    push('1', 's', 50);
    expect(() => push('2')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
    await turn();
    appends[0]?.answer();
    await turn();
    push('2', 's', 10);
    expect(() => push('3')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
  });

  it('an answer that is no id makes its message uncertain, and no other', async () => {
    const { appends, settled, push } = setUpPipeline();
    for (const id of ['1', '2', '3']) push(id);
    await turn();
    appends[0]?.answer(['1', new UnexpectedReply('null'), '3']);
    await turn();
    expect(settled).toEqual(['1', '2: ERR_SEND_UNCERTAIN', '3']);
    expect(appends).toHaveLength(1);
  });

  it('refuses what is over the limit of the server, and sends its neighbours', async () => {
    const { appends, settled, push } = setUpPipeline({ maxQueuedBytes: 1_000 }, { payloadLimit: () => 10 });
    push('1');
    push('2', 's', 11, 'x'.repeat(11));
    push('3', 's', 10, 'x'.repeat(10));
    await turn();
    expect(settled).toEqual(['2: ERR_PAYLOAD_TOO_LARGE']);
    expect(appends.map(({ ids }) => ids)).toEqual([['1', '3']]);
  });

  it('flush waits for what was pushed before it, and for nothing that came later', async () => {
    const { pipeline, appends, push } = setUpPipeline();
    await pipeline.flush();
    const done: string[] = [];
    push('1');
    const first = pipeline.flush().then(() => done.push('first'));
    const same = pipeline.flush().then(() => done.push('same'));
    await turn();
    push('2');
    const second = pipeline.flush().then(() => done.push('second'));
    await turn();

    appends[1]?.answer();
    await turn();
    expect(done).toEqual([]);
    appends[0]?.answer([reply('ERR failed is settled too')]);
    await Promise.all([first, same, second]);
    expect(done.sort()).toEqual(['first', 'same', 'second']);
  });

  it('flush is not kept waiting by messages that are pushed after it', async () => {
    const { pipeline, appends, push } = setUpPipeline();
    push('1');
    const flush = pipeline.flush();
    push('2');
    await turn();
    expect(appends.map(({ ids }) => ids)).toEqual([['1', '2']]);
    push('3');
    await turn();
    appends[0]?.answer();

    await expect(flush).resolves.toBeUndefined();
    expect(pipeline.size).toBe(1);
  });
});

/** A small generator of pseudo-random numbers, so that a failure can be repeated. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

describe('order of a stream', () => {
  it.each(Array.from({ length: 40 }, (_, seed) => seed))(
    'holds whatever way each batch goes, however long each way has to be prepared (seed %i)',
    async (seed) => {
      const random = randomOf(seed);
      const written: string[] = [];
      const prepared = new Set<string>();
      const later = async (): Promise<void> => {
        for (let turns = Math.floor(random() * 6); turns > 0; turns -= 1) await turn();
      };
      // The way of a batch is named by its first message; each must be prepared at first, and again after a failure.
      const wayOf = ({ requests }: WriteBatch): string => (requests[0]?.id ?? '').slice(-1);
      const { pipeline, push } = setUpPipeline(
        { maxBatch: 3, timeout: 60_000 },
        {
          laneOf: (streamKey) => (streamKey === 'c' ? 'other' : ''),
          canWrite: (batch) => prepared.has(wayOf(batch)),
          prepare: async (batch) => {
            await later();
            if (random() < 0.2) throw new ConnectionError('not yet');
            prepared.add(wayOf(batch));
          },
          write: async (batch) => {
            expect(prepared.has(wayOf(batch))).toBe(true);
            // What is refused is refused from some message of the batch on, and so is all that is in flight behind it.
            written.push(...batch.requests.map(({ id }) => `${batch.streamKey}${id}`));
            await later();
            if (random() < 0.2) prepared.clear();
            return batch.requests.map(({ id }) => id);
          },
        },
      );
      const expected: string[] = [];
      for (let count = 0; count < 60; count += 1) {
        const key = 'abc'[Math.floor(random() * 3)] as string;
        const id = `${count}-${Math.floor(random() * 4)}`;
        push(id, key);
        expected.push(`${key}${id}`);
        if (random() < 0.5) await later();
      }
      await pipeline.flush();
      const ofStream = (all: readonly string[], key: string): string[] => all.filter((name) => name.startsWith(key));
      for (const key of ['a', 'b', 'c']) expect(ofStream(written, key)).toEqual(ofStream(expected, key));
    },
  );

  it('holds when a stream moves to another node: it is written there only when all of it in flight is back', async () => {
    let node = 'one';
    const { appends, settled, push } = setUpPipeline(
      { maxBatch: 2 },
      { laneOf: (key) => (key === 's' ? node : 'one') },
    );
    for (const id of ['1', '2', '3', '4']) push(id);
    push('x', 'other');
    await turn();
    expect(appends.map(({ ids }) => ids.join())).toEqual(['1,2', 'x', '3,4']);
    node = 'two';
    const moved = reply('MOVED 1 two:1');
    appends[0]?.answer(['1', moved]);
    push('5');
    await turn();
    push('y', 'other');
    await turn();
    // Other streams are written meanwhile; this one waits for its second batch.
    expect(appends.slice(3).map(({ ids }) => ids.join())).toEqual(['y']);
    appends[2]?.answer([moved, moved]);
    // One batch alone at first: while the slot is being migrated, a node may refuse one batch and take the next one.
    await until('it is repeated', () => appends.length === 5);
    expect(appends[4]?.ids).toEqual(['2']);
    appends[4]?.answer();
    await until('the rest is repeated', () => appends.length === 7);
    expect(appends.slice(5).map(({ ids }) => ids.join())).toEqual(['3,4', '5']);
    for (const append of appends) append.answer();
    await turn();
    expect(settled).toEqual(
      ['1', '2', '3', '4', '5', 'x', 'y'].sort((a, b) => settled.indexOf(a) - settled.indexOf(b)),
    );
    expect(settled.filter((id) => /\d/.test(id))).toEqual(['1', '2', '3', '4', '5']);
  });

  it.each(['TRYAGAIN Multiple keys request during rehashing of slot', 'CLUSTERDOWN Hash slot not served'])(
    'a stream that is refused for its slot alone waits, and holds up no other stream of its node: %s',
    async (text) => {
      const { appends, settled, push } = setUpPipeline({ maxBatch: 1 });
      push('1', 's');
      await turn();
      for (let round = 0; round < 4; round += 1) {
        const refused = appends.filter(({ streamKey }) => streamKey === 's');
        expect(refused).toHaveLength(round + 1);
        refused.at(-1)?.answer([reply(text)]);
        push(`${round}`, 'other');
        await turn();
        await turn();
        expect(appends.filter(({ streamKey }) => streamKey === 'other')).toHaveLength(round + 1);
        for (const append of appends) if (append.streamKey === 'other') append.answer();
        await until('it is repeated', () => appends.filter(({ streamKey }) => streamKey === 's').length === round + 2);
      }
      for (const append of appends) append.answer();
      await turn();
      expect(settled).toHaveLength(5);
    },
  );

  it('settles a batch whose write fails in an unexpected way, and continues', async () => {
    let isBroken = true;
    const { settled, push } = setUpPipeline(
      {},
      {
        write: async ({ requests }) => {
          if (isBroken) throw new TypeError('a mistake');
          return requests.map(({ id }) => id);
        },
      },
    );
    push('1');
    await turn();
    isBroken = false;
    push('2');
    await turn();
    expect(settled).toEqual(['1: ERR_INTERNAL', '2']);
  });

  it('a node that stands still holds up no other node', async () => {
    const { appends, push } = setUpPipeline({ maxBatch: 1 }, { laneOf: (key) => key });
    for (let count = 0; count < 30; count += 1) push(String(count), 'still');
    for (let count = 0; count < 16; count += 1) push(String(count), 'alive');
    await turn();
    const of = (key: string): Append[] => appends.filter(({ streamKey }) => streamKey === key);
    expect([of('still').length, of('alive').length]).toEqual([16, 16]);
    for (const append of of('alive')) append.answer();
    await turn();
    push('next', 'alive');
    await turn();
    expect([of('still').length, of('alive').length]).toEqual([16, 17]);
  });
});
