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
    const claimer = new IdleClaimer({ claims, interval: 60_000, minIdle: 1, batchSize: 10 });

    await claimer.run([partition], 10);
    expect(cursors.length).toBeLessThanOrEqual(FEW);
    expect(claimer.dueIn()).toBe(0);

    while (claimer.dueIn() === 0) await claimer.run([partition], 10);
    expect(cursors).toEqual([undefined, ...Array.from({ length: PAGES - 1 }, (_, page) => `${page + 1}-0`)]);
    expect(claimer.dueIn()).toBeGreaterThan(1_000);
  });
});
