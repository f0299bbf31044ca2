import { describe, expect, it } from '@jest/globals';

import { IoredisChannel } from '../../../lib/redis/connection/ioredis-channel.js';
import { RespChannel } from '../../../lib/redis/wire/resp-channel.js';
import type { CommandBench } from '../../support/command-bench.js';
import { until } from '../../support/until.js';

const DIRECT_USE = 'direct use of the socket';

/** How the connections of a way come about. */
export function connectingCases(bench: CommandBench): void {
  describe('connections', () => {
    it('of every role send the way that is expected', async () => {
      const key = bench.key();
      await bench.channel('writer', key);
      await bench.channel('control', key);
      await bench.reader(key);
      const { connections, way } = bench;
      const all = (['writer', 'control', 'reader'] as const).map((role) => connections.ofRole(role));
      expect(all.map((ofRole) => ofRole.length > 0)).toEqual([true, true, true]);
      // connect() does not wait for every node of a cluster.
      await until('all are live', () => all.flat().every(({ channel }) => channel !== undefined));
      for (const { channel } of all.flat()) expect(channel).toBeInstanceOf(way.isPlain ? IoredisChannel : RespChannel);
    });

    it('report the way of ioredis once, for debugging, and only where the socket could not be used', async () => {
      await bench.reader(bench.key());
      const lines = bench.debugLines.filter((line) => line.includes(DIRECT_USE));
      expect(lines).toHaveLength(bench.way.isPlain && !bench.way.isSwitchedOff ? 1 : 0);
    });

    it('that connect report no warning', () => {
      expect(bench.warnings).toEqual([]);
    });

    it('use the database that was chosen', async () => {
      const key = bench.key();
      await bench.writing.appending.append(key, [{ id: '*', fields: ['msg', 'x'] }]);
      expect(await (await bench.admin(key)).xlen(key)).toBe(1);
    });

    const interruptRead = async () => {
      const key = bench.key();
      const { reading, interrupt } = await bench.reader(key);
      const scene = { key, begin: Date.now(), isPossible: interrupt.isPossible, isOver: false };
      const read = reading.read({ positions: [[key, '$']], count: 10, block: 10_000 }).then((pages) => {
        scene.isOver = true;
        return pages;
      });
      await interrupt.interrupt(() => scene.isOver);
      return { scene, read };
    };

    if (bench.way.may.unblock) {
      it('end blocked reads early by CLIENT UNBLOCK', async () => {
        const { scene, read } = await interruptRead();
        expect(scene.isPossible).toBe(true);
        expect(await read).toEqual([]);
        expect(Date.now() - scene.begin).toBeLessThan(8_000);
      });
    } else {
      it('leave blocked reads alone where CLIENT UNBLOCK is not permitted', async () => {
        const { scene, read } = await interruptRead();
        expect(scene.isPossible).toBe(false);
        const admin = await bench.admin(scene.key);
        await until('the read blocks', async () => /blocked_clients:[1-9]/.test(await admin.info('clients')));
        expect(scene.isOver).toBe(false);
        await admin.xadd(scene.key, '*', 'msg', 'x');
        expect(await read).toHaveLength(1);
      });
    }
  });
}
