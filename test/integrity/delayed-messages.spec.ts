import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from '@jest/globals';

import { useChildProgram } from '../support/child-program.js';
import type { DelayedInput, DelayedLine } from '../support/delayed-child.js';
import { FaultBench } from '../support/fault-bench.js';
import { useTally } from '../support/tally.js';
import { until } from '../support/until.js';

const MESSAGES = 20_000;
const LONGEST_DELAY = 3_000;
const MOVERS = 3;
const LIMIT = 120_000;
const bench = new FaultBench();
const start = useChildProgram<DelayedInput, DelayedLine>('./delayed-child.ts');
const tally = useTally();

/** A small linear congruential generator, so that a failure can be repeated. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

it(
  'a delayed message is in the stream once and not early, whichever process is killed and however often Redis restarts',
  async () => {
    const random = randomOf(17);
    const redis = await bench.redis();
    const stream = 'reminders';
    const server = await redis.masterOf(stream);
    const input = { connection: redis.connection, stream };
    const all = Array.from(
      { length: MESSAGES },
      (_, number) => [number, Math.floor(random() * LONGEST_DELAY)] as const,
    );
    const due = new Map<number, number>();
    let kills = 0;
    let isOver = false;

    const kill = (child: { process: { kill(signal: 'SIGKILL'): void } }): void => {
      child.process.kill('SIGKILL');
      kills += 1;
    };
    const producing = (async () => {
      while (due.size < MESSAGES) {
        // What was not confirmed is scheduled again, by another process.
        const messages = all.filter(([number]) => !due.has(number)).slice(0, 4_000);
        const goal = due.size + 500 + Math.floor(random() * 2_500);
        const child = await start({ ...input, messages }, (line) => {
          for (const [number, at] of line) due.set(number, at);
          if (due.size >= goal && due.size < MESSAGES) child.process.kill('SIGKILL');
        });
        await Promise.race([child.ended, until('all are confirmed', () => due.size >= Math.min(goal, MESSAGES))]);
        if (due.size < MESSAGES) kill(child);
      }
    })();
    const moving = Array.from({ length: MOVERS }, async () => {
      while (!isOver) {
        const child = await start(input, () => undefined);
        await sleep(700 + random() * 1_500);
        kill(child);
        await child.ended;
      }
    });
    const restarting = (async () => {
      for (const wait of [1_500, 3_000]) {
        await sleep(wait);
        await server.restart();
      }
    })();
    await Promise.all([producing, restarting]);
    const admin = redis.client();
    await until('none waits', async () => (await admin.exists(`nrs:{${stream}}:delayed:${stream}`)) === 0, 60_000);
    isOver = true;
    await Promise.all(moving);

    const entries = await admin.xrange(stream, '-', '+');
    const times = new Map<number, number>();
    const early: number[] = [];
    for (const [id, [, text]] of entries) {
      const number = Number(text);
      times.set(number, (times.get(number) ?? 0) + 1);
      if (Number(id.split('-')[0]) < (due.get(number) ?? Infinity)) early.push(number);
    }
    const lost = MESSAGES - times.size;
    const duplicates = entries.length - times.size;
    tally({ faults: kills + 2, sends: MESSAGES, handled: times.size, duplicates, lost });
    expect({ lost, duplicates, early }).toEqual({ lost: 0, duplicates: 0, early: [] });
  },
  LIMIT,
);
