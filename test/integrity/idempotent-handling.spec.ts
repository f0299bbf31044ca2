import { expect, it } from '@jest/globals';

import { useChildProgram } from '../support/child-program.js';
import { FaultBench } from '../support/fault-bench.js';
import type { Booking, InboxLine, InboxInput } from '../support/inbox-child.js';
import { useTally } from '../support/tally.js';

const MESSAGES = 600;
const LIMIT = 60_000;
const bench = new FaultBench();
const startConsumer = useChildProgram<InboxInput, InboxLine>('./inbox-child.ts');
const tally = useTally();

/**
 * Every hundredth message exits the first process that receives it, alternately before and after its work is recorded.
 */
function bookingOf(amount: number): Booking {
  if (amount % 100 !== 50) return { amount };
  return { amount, crash: amount % 200 === 50 ? 'before-record' : 'before-ack' };
}

it(
  'work through an inbox takes effect exactly once, whenever its process crashes',
  async () => {
    const redis = await bench.redis();
    const admin = redis.client();
    const stream = 'bookings';
    const producer = await (await bench.streamer(redis.connection)).createProducer(stream);
    const given = new Map<number, number>();
    let crashes = 0;
    const isDone = async (): Promise<boolean> => {
      const summary = await admin.xpending(stream, 'accounting').catch(() => undefined);
      return given.size === MESSAGES && summary?.[0] === 0;
    };

    let isOver = false;
    const consuming = (async () => {
      while (!isOver) {
        const input = { connection: redis.connection, stream, consumer: 'accountant' };
        const child = await startConsumer(input, ({ given: amount }) => {
          given.set(amount, (given.get(amount) ?? 0) + 1);
        });
        const stopWhenDone = async (): Promise<void> => {
          if (!(await isDone())) return;
          isOver = true;
          child.process.kill('SIGTERM');
        };
        const watch = setInterval(() => void stopWhenDone(), 100);
        if ((await child.ended) === 7) crashes += 1;
        clearInterval(watch);
      }
    })();
    for (let amount = 1; amount <= MESSAGES; amount += 1) {
      await producer.send(JSON.stringify(bookingOf(amount)));
    }
    await consuming;

    const balance = Number(await admin.get(`{${stream}}:balance`));
    const repeated = [...given.values()].reduce((sum, times) => sum + times - 1, 0);
    tally({ faults: crashes, sends: MESSAGES, handled: given.size, duplicates: repeated, lost: MESSAGES - given.size });
    expect(crashes).toBe(6);
    // After each crash at least the message that caused it is delivered again.
    expect(repeated).toBeGreaterThanOrEqual(crashes);
    expect(balance).toBe((MESSAGES * (MESSAGES + 1)) / 2);
  },
  LIMIT,
);
