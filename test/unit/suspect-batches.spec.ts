import { setImmediate as turn } from 'node:timers/promises';
import { describe, expect, it } from '@jest/globals';

import { BatchRevoked } from '../../lib/redis/commands/redis-error.js';
import type { WriteBatch } from '../../lib/redis/commands/stream-commands.js';
import { lost, reply, setUpPipeline } from '../support/pipeline-bench.js';
import type { Outcomes } from '../support/pipeline-bench.js';
import { until } from '../support/until.js';

// Concurrent: what they do is wait between two attempts.
describe('write pipeline: a batch during which connections end', () => {
  it.concurrent.each([1, 3, 7])(
    'halves a batch that ended its connection twice until one message is to blame, the others pass in order (message %i)',
    async (guilty) => {
      const written: string[][] = [];
      const passed: string[] = [];
      const write = async ({ requests }: WriteBatch): Promise<Outcomes> => {
        const ids = requests.map(({ id }) => id);
        written.push(ids);
        if (ids.includes(`${guilty}`)) return ids.map(lost);
        passed.push(...ids);
        return ids;
      };
      const { pipeline, settled, push } = setUpPipeline({}, { write });
      const ids = Array.from({ length: 8 }, (_, id) => `${id}`);
      for (const id of ids) push(id);
      await pipeline.flush();

      expect(settled).toEqual(ids.map((id) => (id === `${guilty}` ? `${id}: ERR_SEND_UNCERTAIN` : id)));
      expect(passed).toEqual(ids.filter((id) => id !== `${guilty}`));
      expect(written[0]).toEqual(written[1]);
    },
  );

  it.concurrent(
    'blames a message that nothing was answered beside, too, once it has ended connections for seconds',
    async () => {
      let isCut = false;
      // What is behind it on the connection is lost with it.
      const write = async ({ requests }: WriteBatch): Promise<Outcomes> => {
        const ids = requests.map(({ id }) => id);
        isCut ||= ids.includes('guilty');
        if (!isCut) return ids;
        await turn();
        isCut = false;
        return ids.map(lost);
      };
      const { pipeline, settled, push } = setUpPipeline({}, { write });
      const begin = performance.now();
      push('guilty');
      await turn();
      push('2');
      await pipeline.flush();
      expect(settled).toEqual(['guilty: ERR_SEND_UNCERTAIN', '2']);
      expect(performance.now() - begin).toBeGreaterThan(9_500);
    },
  );

  it.concurrent('blames no message when all of a batch end their connections for seconds', async () => {
    const begin = performance.now();
    const write = async ({ requests }: WriteBatch): Promise<Outcomes> =>
      requests.map(({ id }) => (performance.now() - begin < 3_000 ? lost() : id));
    const { pipeline, settled, push } = setUpPipeline({}, { write });
    for (const id of ['1', '2', '3']) push(id);
    await pipeline.flush();
    expect(settled).toEqual(['1', '2', '3']);
  });

  it.concurrent('writes a suspect batch soon, however busy the other streams of its lane are', async () => {
    let breaks = 0;
    let others = 0;
    const write = async ({ streamKey, requests }: WriteBatch): Promise<Outcomes> => {
      const ids = requests.map(({ id }) => id);
      if (streamKey === 'b') {
        await turn();
        return ids;
      }
      breaks += 1;
      return breaks < 4 ? ids.map(lost) : ids;
    };
    const { settled, push } = setUpPipeline({}, { write });
    push('suspect', 'a');
    await until('the suspect is confirmed beside a busy stream', async () => {
      push(`${(others += 1)}`, 'b');
      await turn();
      return settled.includes('suspect');
    });
    expect(others).toBeGreaterThan(10);
  });

  it.concurrent('does not blame the only message that it has: the network may be cut again and again', async () => {
    let attempts = 0;
    const write = async ({ requests }: WriteBatch): Promise<Outcomes> => {
      attempts += 1;
      return requests.map(({ id }) => (attempts < 7 ? lost() : id));
    };
    const { pipeline, settled, push } = setUpPipeline({}, { write });
    push('1');
    await pipeline.flush();
    expect(settled).toEqual(['1']);
  });

  describe('exactly-once', () => {
    const ONCE = { delivery: 'exactly-once', producer: 'p' } as const;

    /** Remembers batches as the server does; `read` is false for a batch that it could not read. */
    function remembering(read: (ids: string[], attempt: number) => boolean, failure: () => Error, keepsReply = true) {
      const known = new Map<number, Outcomes>();
      const stored: string[] = [];
      let attempts = 0;
      let revokedBelow = 0;
      const write = async ({ requests, once }: WriteBatch): Promise<Outcomes> => {
        const ids = requests.map(({ id }) => id);
        const number = once?.batch as number;
        attempts += 1;
        const before = known.get(number);
        if (once?.revokesBelow !== undefined) {
          if (!before) revokedBelow = Math.max(revokedBelow, once.revokesBelow);
          return before ?? ids.map(() => new BatchRevoked());
        }
        if (!read(ids, attempts)) return ids.map(failure);
        if (!before && number < revokedBelow) return ids.map(() => new BatchRevoked());
        if (!before) stored.push(...ids);
        known.set(number, before ?? ids);
        return keepsReply ? (known.get(number) as Outcomes) : ids.map(failure);
      };
      return { write, stored };
    }

    it.concurrent.each([
      ['a lost connection', lost, 'large: ERR_SEND_FAILED'],
      ['a protocol error', () => reply('ERR Protocol error: invalid bulk length'), 'large: ERR_SEND_FAILED'],
    ])('splits a batch that the server could not read, after it was revoked (%s)', async (_, failure, outcome) => {
      const { write, stored } = remembering((ids) => !ids.includes('large'), failure);
      const { pipeline, settled, push } = setUpPipeline(ONCE, { write });
      for (const id of ['1', '2', 'large', '4', '5']) push(id);
      await pipeline.flush();
      push('6');
      await pipeline.flush();
      expect(settled).toEqual(['1', '2', outcome, '4', '5', '6']);
      expect(stored).toEqual(['1', '2', '4', '5', '6']);
    });

    it.concurrent.each([
      ['a lost connection', lost],
      ['a protocol error', () => reply('ERR Protocol error: invalid bulk length')],
    ])('keeps the order of what was in flight behind a batch that was revoked (%s)', async (_, failure) => {
      let isClosed = true;
      // The first four requests are on a connection that ends with the first of them.
      const read = (_ids: string[], attempt: number): boolean => attempt > 4;
      const { write, stored } = remembering(read, () => (isClosed ? failure() : lost()));
      const { pipeline, settled, push } = setUpPipeline({ ...ONCE, maxBatch: 2 }, { write });
      const ids = Array.from({ length: 8 }, (_, id) => `${id}`);
      for (const id of ids) push(id);
      await turn();
      isClosed = false;
      await pipeline.flush();
      expect(stored).toEqual(ids);
      expect(settled).toEqual(ids);
    });

    it.concurrent(
      'sends a batch again under a new number when the server has revoked it with one before it',
      async () => {
        const numbers: Array<number | undefined> = [];
        const write = async ({ requests, once }: WriteBatch): Promise<Outcomes> => {
          numbers.push(once?.batch);
          return requests.map(({ id }) => (numbers.length <= 2 ? new BatchRevoked() : id));
        };
        const { pipeline, settled, push } = setUpPipeline({ ...ONCE, maxBatch: 2 }, { write });
        for (const id of ['1', '2', '3', '4']) push(id);
        await pipeline.flush();
        expect(settled).toEqual(['1', '2', '3', '4']);
        expect(numbers).toEqual([1, 2, 3, 4]);
      },
    );

    it.concurrent('does not split a batch that turns out to be appended', async () => {
      const { write, stored } = remembering(() => true, lost, false);
      const { pipeline, settled, push } = setUpPipeline(ONCE, { write });
      push('1');
      push('2');
      await pipeline.flush();
      expect(settled).toEqual(['1', '2']);
      expect(stored).toEqual(['1', '2']);
    });

    it.concurrent('does not blame the only message that it has: the network may be cut again and again', async () => {
      const { write, stored } = remembering((_ids, attempt) => attempt > 8, lost);
      const { pipeline, settled, push } = setUpPipeline(ONCE, { write });
      push('1');
      await pipeline.flush();
      expect(settled).toEqual(['1']);
      expect(stored).toEqual(['1']);
    });
  });
});
