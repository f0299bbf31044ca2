import { AsyncLocalStorage } from 'node:async_hooks';

import { expect, it } from '@jest/globals';

import type { ConsumerSession } from '../../lib/engine/consuming/consumer-session.js';
import { Partition } from '../../lib/engine/consuming/partition.js';
import { StreamMessage } from '../../lib/engine/messages/stream-message.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import { Dispatcher } from '../../lib/engine/settling/dispatcher.js';
import type { RateLimit } from '../../lib/engine/settling/rate-limit.js';
import { until } from '../support/until.js';

const nothing = (): void => undefined;

/** As much of a session as a dispatcher needs that closes with nothing running. */
class FakeSession {
  readonly partition = new Partition('s', 0, 's');
  readonly messages: StreamMessage[] = [];
  readonly maxHandlerTime = Infinity;
  readonly environment = { suspectTurn: { forget: nothing } };
  readonly buffer: { readonly size: number; readonly isStarved: boolean };
  readonly acknowledger = { acknowledge: nothing };
  readonly handOutTo = nothing;
  readonly releasePlaces = nothing;
  readonly stopReading = async (): Promise<void> => undefined;
  readonly giveBack = async (): Promise<void> => undefined;

  constructor(count: number) {
    const { messages } = this;
    for (let number = 1; number <= count; number += 1) {
      messages.push(
        StreamMessage.create(this.partition, { id: `${number}-0`, fields: [], deliveryCount: 1 }, DEFAULTS.streamer),
      );
    }
    this.buffer = {
      get size() {
        return messages.length;
      },
      isStarved: false,
    };
  }

  handOut(): StreamMessage | undefined {
    return this.messages.shift();
  }
}

it('a batch is within its size and its rate when the span of the rate ends while it is made', async () => {
  // Of a group: first it says that 2 may be started, then that none may, because the span is over.
  const answers = [2, 0, 3, 3, 3, 3];
  let available = nothing;
  const taken: number[] = [];
  const rateLimit: RateLimit = {
    available: () => answers.shift() ?? 0,
    take: (count) => void taken.push(count),
    onAvailable: (listener) => (available = listener),
    close: nothing,
  };
  const session = new FakeSession(20);
  const sizes: number[] = [];
  const dispatcher = new Dispatcher({
    session: session as unknown as ConsumerSession,
    concurrency: 1,
    batch: { size: 10, timeout: 5 },
    rateLimit,
    deliver: async (deliveries) => {
      sizes.push(deliveries.length);
      for (const delivery of deliveries) delivery.settle({ kind: 'ack' });
    },
    onFailed: nothing,
    storeDeadLetter: async () => undefined,
    onError: nothing,
  });
  dispatcher.onArrival();
  expect(sizes).toEqual([]);
  available();
  await dispatcher.close(0);
  expect(sizes).toEqual([3]);
  expect(taken).toEqual([3]);
});

it('a delivery that fails is settled outside of the context of another handler, and left pending where that fails too', async () => {
  const store = new AsyncLocalStorage<string>();
  const left: string[] = [];
  const acknowledger = { leavePending: ({ id }: StreamMessage) => left.push(id) };
  const session = Object.assign(new FakeSession(2), { acknowledger });
  const errors: Error[] = [];
  const failed: Array<[id: string, error: unknown, store: string | undefined]> = [];
  const dispatcher = new Dispatcher({
    session: session as unknown as ConsumerSession,
    concurrency: 2,
    deliver: async ([delivery]) => {
      throw new Error(`of ${delivery?.message.id}`);
    },
    onFailed: ([delivery], error) => {
      failed.push([delivery?.message.id as string, (error as Error).message, store.getStore()]);
      if (delivery?.message.id === '2-0') throw new Error('of onFailed');
      delivery?.settle({ kind: 'pending' });
    },
    storeDeadLetter: async () => undefined,
    onError: (error) => errors.push(error),
  });
  store.run('another handler', () => dispatcher.onArrival());
  await until('both have ended', () => dispatcher.running === 0);
  expect(failed).toEqual([
    ['1-0', 'of 1-0', undefined],
    ['2-0', 'of 2-0', undefined],
  ]);
  expect(left).toEqual(['1-0', '2-0']);
  expect(errors.map(({ message }) => message)).toEqual([expect.stringContaining('of onFailed')]);
});
