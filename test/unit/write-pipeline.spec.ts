import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from '@jest/globals';
import { withResolvers } from '../../lib/shared/deferred.js';
import { QueuedSend } from '../../lib/engine/messages/queued-send.js';
import { WritePipeline } from '../../lib/engine/producing/write-pipeline.js';
import type { WritePipelineOptions } from '../../lib/engine/producing/write-pipeline.js';
import { ConnectionError } from '../../lib/errors.js';
import type { RedisStreamsError } from '../../lib/errors.js';
import type { AppendRequest } from '../../lib/redis/commands/stream-commands.js';
import { until } from '../support/until.js';

type Outcomes = Array<string | Error>;

/** An append that was asked for, to be answered by the test. */
interface Append {
  readonly streamKey: string;
  readonly ids: string[];
  answer(outcomes?: Outcomes): void;
  fail(error: Error): void;
}

const open: WritePipeline[] = [];
afterEach(() => {
  for (const pipeline of open.splice(0)) pipeline.close();
});

function setUp(options: Partial<WritePipelineOptions> = {}) {
  const appends: Append[] = [];
  const settled: string[] = [];
  const append = (streamKey: string, requests: readonly AppendRequest[]): Promise<Outcomes> => {
    const { promise, resolve, reject } = withResolvers<Outcomes>();
    const ids = requests.map(({ id }) => id);
    appends.push({ streamKey, ids, answer: (outcomes = ids) => resolve(outcomes), fail: reject });
    return promise;
  };
  const pipeline = new WritePipeline({
    appending: { append },
    delivery: 'at-least-once',
    timeout: 60_000,
    maxBatch: 500,
    maxQueued: 1_000,
    maxQueuedBytes: 1_000,
    trim: () => ({}),
    ...options,
  });
  open.push(pipeline);
  class TestSend extends QueuedSend {
    override get wantsId(): boolean {
      return true;
    }
    accepted(accepted: string): void {
      settled.push(accepted);
    }
    failed({ code }: RedisStreamsError): void {
      settled.push(`${this.id}: ${code}`);
    }
  }
  const push = (id: string, key = 's', size = 1): void => {
    pipeline.push(new TestSend({ key, id, name: 'msg', payload: '', more: undefined, size }));
  };
  return { pipeline, appends, settled, push };
}

const lost = (): Error => new ConnectionError('the connection broke');
const reply = (message: string): Error => Object.assign(new Error(message), { name: 'ReplyError' });

describe('write pipeline', () => {
  it('sends what is pushed in one turn as one batch', async () => {
    const { appends, push } = setUp();
    for (const id of ['1', '2', '3']) push(id);
    expect(appends).toHaveLength(0);
    await turn();
    push('4');
    await turn();

    expect(appends.map(({ ids }) => ids)).toEqual([['1', '2', '3'], ['4']]);
  });

  it('makes batches of messages for one stream, of maxBatch at most, and lets streams take turns', async () => {
    const { appends, push } = setUp({ maxBatch: 2 });
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

  it('makes smaller batches of large messages, so that none holds up the server for long', async () => {
    const { appends, push } = setUp({ maxQueuedBytes: 100_000_000 });
    for (const id of ['1', '2', '3']) push(id, 's', 4_000_000);
    push('4', 's', 20_000_000);
    await turn();

    expect(appends.map(({ ids }) => ids)).toEqual([['1', '2'], ['3'], ['4']]);
  });

  it('has four full batches under way at most, and sends the next one when one is back', async () => {
    const { appends, push } = setUp({ maxBatch: 1 });
    for (const id of ['1', '2', '3', '4', '5', '6']) push(id);
    await turn();
    expect(appends).toHaveLength(4);
    appends[1]?.answer();
    await turn();
    expect(appends.map(({ ids }) => ids[0])).toEqual(['1', '2', '3', '4', '5']);
  });

  it('settles each message by its own outcome', async () => {
    const { appends, settled, push } = setUp();
    for (const id of ['1-*', '2', '3', '4']) push(id);
    await turn();
    const smaller = reply('ERR The ID specified in XADD is equal or smaller than the target stream top item');
    appends[0]?.answer([smaller, '2-0', reply('WRONGTYPE no stream'), reply('ERR odd')]);
    await turn();

    expect(settled).toEqual(['1-*: ERR_TIMESTAMP_REFUSED', '2-0', '3: ERR_WRONG_TYPE', '4: ERR_SEND_FAILED']);
  });

  it('at-least-once: repeats what was lost, in its old order and before anything newer', async () => {
    const { appends, settled, push } = setUp({ maxBatch: 1 });
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
    const { appends, settled, push } = setUp({ delivery: 'at-most-once' });
    push('1');
    await turn();
    appends[0]?.fail(lost());
    await turn();

    expect(settled).toEqual(['1: ERR_SEND_UNCERTAIN']);
    expect(appends).toHaveLength(1);
  });

  it('at-most-once: repeats what the server refused for the moment, because that did nothing', async () => {
    const { appends, settled, push } = setUp({ delivery: 'at-most-once' });
    push('1');
    await turn();
    appends[0]?.answer([reply('LOADING the dataset')]);
    await until('it is sent again', () => appends.length === 2);
    appends[1]?.answer();
    await turn();

    expect(settled).toEqual(['1']);
  });

  it('gives up when the time is over, and says whether the message may be in the stream', async () => {
    const { appends, settled, push } = setUp({ timeout: 0 });
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
    const { pipeline, appends, push } = setUp({ maxQueued: 2 });
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

  it('is bounded by bytes, but takes one message that is larger than all of them', async () => {
    const { appends, push } = setUp({ maxQueuedBytes: 10 });
    push('1', 's', 50);
    expect(() => push('2')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
    await turn();
    appends[0]?.answer();
    await turn();
    push('2', 's', 10);
    expect(() => push('3')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
  });

  it('flush waits for what was pushed before it, and for nothing that came later', async () => {
    const { pipeline, appends, push } = setUp();
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
    const { pipeline, appends, push } = setUp();
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
