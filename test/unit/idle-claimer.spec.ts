import { setTimeout as pause } from 'node:timers/promises';

import { describe, expect, it } from '@jest/globals';

import { Partition } from '../../lib/engine/consuming/partition.js';
import { IdleClaimer } from '../../lib/engine/consuming/recovery/idle-claimer.js';

const PAGES = 1_000;
/** A round of the read loop can wait for so many commands, not for a whole scan. */
const FEW = 20;

describe('idle claimer', () => {
  it('a scan of a long list without idle entries takes many rounds, so that new entries are read in between', async () => {
    const partition = new Partition('s', 0, 's');
    const cursors: Array<string | undefined> = [];
    const claims = {
      claimIdle: async (_partition: Partition, { after }: { after: string | undefined }) => {
        cursors.push(after);
        return { entries: [], next: cursors.length < PAGES ? `${cursors.length}-0` : undefined };
      },
    };
    const claimer = new IdleClaimer({ claims, interval: 60_000, minIdle: 1 });

    await claimer.run([partition], 10, 10);
    expect(cursors.length).toBeLessThanOrEqual(FEW);
    expect(claimer.dueIn()).toBe(0);

    while (claimer.dueIn() === 0) await claimer.run([partition], 10, 10);
    expect(cursors).toEqual([undefined, ...Array.from({ length: PAGES - 1 }, (_, page) => `${page + 1}-0`)]);
    expect(claimer.dueIn()).toBeGreaterThan(1_000);
  });

  it('a page is as large as the reads of the loop, if half of the free places suffice for it', async () => {
    const counts: number[] = [];
    const claims = {
      claimIdle: async (_partition: Partition, { count }: { count: number }) => {
        counts.push(count);
        return { entries: [], next: undefined };
      },
    };

    for (const [credit, batchSize] of [
      [1_000, 10],
      [1_000, 300],
      [100, 300],
    ] as const) {
      await new IdleClaimer({ claims, interval: 60_000, minIdle: 1 }).run(
        [new Partition('s', 0, 's')],
        credit,
        batchSize,
      );
    }

    expect(counts).toEqual([10, 300, 50]);
  });

  it('a page after one without idle entries is small, because the server looks at many entries for it, until something is found', async () => {
    const counts: number[] = [];
    const found = { id: '5-0', fields: [], deliveryCount: 1 };
    const claims = {
      claimIdle: async (_partition: Partition, { count }: { count: number }) => {
        counts.push(count);
        return {
          entries: counts.length === 3 ? [found] : [],
          next: counts.length < 4 ? `${counts.length}-0` : undefined,
        };
      },
    };
    const claimer = new IdleClaimer({ claims, interval: 60_000, minIdle: 1 });
    const partition = new Partition('s', 0, 's');

    while (claimer.dueIn() === 0) await claimer.run([partition], 1_000, 300);

    expect(counts).toEqual([300, 50, 50, 300]);
  });

  it('a round ends after one page where each takes long, so that the reads of the loop keep their pace', async () => {
    let pages = 0;
    const claims = {
      claimIdle: async () => {
        pages += 1;
        await pause(3);
        return { entries: [], next: `${pages}-0` };
      },
    };

    await new IdleClaimer({ claims, interval: 60_000, minIdle: 1 }).run([new Partition('s', 0, 's')], 100, 10);

    expect(pages).toBe(1);
  });
});
