import { setImmediate as nextTurn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import type { ProducerOptions, StreamProducer } from '../../lib/index.js';
import { CommandBench, useServers } from '../support/command-bench.js';
import { EngineBench } from '../support/engine-bench.js';
import { A_CLUSTER, A_CONNECTING_CLIENT, A_URL, NO_SCRIPTS_USER, PLAIN_URL } from '../support/ways.js';

const ROUNDS = 40;
/** Ids of this time are larger than those that servers generate now. */
const LATER = 60_000;

/** Producers whose first batches need different things of the server before they can be written. */
const PRODUCERS: ReadonlyArray<readonly [what: string, options: ProducerOptions]> = [
  ['at-least-once', {}],
  ['at-most-once', { delivery: 'at-most-once' }],
  ['exactly-once', { delivery: 'exactly-once' }],
  ['maxLen', { maxLen: 1_000 }],
  ['minAge', { minAge: 3_600_000 }],
  ['exactly-once and maxLen', { delivery: 'exactly-once', maxLen: 1_000 }],
  ['exactly-once and minAge', { delivery: 'exactly-once', minAge: 3_600_000 }],
  ['batches of one message', { maxBatch: 1 }],
];

const servers = useServers();

describe.each([A_URL, A_CONNECTING_CLIENT, NO_SCRIPTS_USER, PLAIN_URL, A_CLUSTER])(
  'the order of sends over $name:',
  (way) => {
    const bench = new CommandBench(way, servers);
    const engine = new EngineBench(bench);
    const can = ({ delivery, minAge }: ProducerOptions): boolean =>
      way.may.scripts
        ? bench.version >= 7 || delivery !== 'exactly-once' || minAge === undefined
        : delivery !== 'exactly-once' && (bench.version >= 7 || minAge === undefined);
    const payloadsOf = async (key: string): Promise<string[]> =>
      (await bench.stored(key)).map(([, [, payload]]) => payload as string);

    it.each(PRODUCERS)(
      'a message with a timestamp goes before one that is sent in the next turn (%s)',
      async (_, options) => {
        if (!can(options) || !bench.hasPartialIds) return;
        const refusesTimestamps = options.delivery === 'exactly-once' && bench.version < 7;
        const wrong: string[][] = [];
        for (let round = 0; round < ROUNDS; round += 1) {
          const key = bench.key();
          await using streamer = await engine.connect();
          const producer = await streamer.createProducer(key, options);
          const timestamp = refusesTimestamps ? {} : { timestamp: new Date(Date.now() + LATER) };
          const first = producer.send('a', timestamp);
          await nextTurn();
          const second = producer.send('b');
          await Promise.all([first, second]);
          const stored = await payloadsOf(key);
          if (stored.join() !== 'a,b') wrong.push(stored);
        }
        expect(wrong).toEqual([]);
      },
    );

    it('messages of several producers of one streamer keep the order of their producer', async () => {
      const usable = PRODUCERS.filter(([, options]) => can(options));
      for (let round = 0; round < 5; round += 1) {
        const keys = bench.keysTogether(2) as [string, string];
        await using streamer = await engine.connect();
        const producers: StreamProducer[] = [];
        for (const [, options] of usable) producers.push(await streamer.createGenericProducer(options));
        const sends: Array<Promise<unknown>> = [];
        for (let n = 0; n < 40; n += 1) {
          for (const [index, producer] of producers.entries())
            for (const key of keys) sends.push(producer.sendTo(key, `${index}/${n}`));
          if (n % 3 === 0) await nextTurn();
        }
        await Promise.all(sends);
        for (const key of keys) {
          const stored = await payloadsOf(key);
          for (const index of producers.keys()) {
            const own = stored.filter((payload) => payload.startsWith(`${index}/`));
            expect(own).toEqual(Array.from({ length: 40 }, (_, n) => `${index}/${n}`));
          }
        }
      }
    });

    it('messages with and without timestamps and headers, in batches of all sizes, keep their order', async () => {
      if (!bench.hasPartialIds) return;
      const key = bench.key();
      const streamer = await engine.connect();
      const producer = await streamer.createProducer(key, { maxBatch: 7 });
      const timestamp = new Date(Date.now() + LATER);
      const payloads = Array.from({ length: 500 }, (_, n) => String(n));
      for (const [n, payload] of payloads.entries()) {
        const headers = n % 5 === 0 ? { headers: { n: payload } } : {};
        producer.enqueue(payload, { ...headers, ...(n % 3 === 0 ? { timestamp } : {}) });
        if (n % 11 === 0) await nextTurn();
      }
      await producer.flush();
      expect(await payloadsOf(key)).toEqual(payloads);
    });
  },
);
