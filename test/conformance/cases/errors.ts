import { describe, expect, it } from '@jest/globals';

import { ConnectionError } from '../../../lib/errors.js';
import { classifyRedisError, replyWord, type RedisErrorKind } from '../../../lib/redis/commands/redis-error.js';
import { ConnectionLost } from '../../../lib/redis/wire/resp-reader.js';
import type { Command } from '../../../lib/redis/wire/resp-writer.js';
import type { CommandBench } from '../../support/command-bench.js';
import { until } from '../../support/until.js';

type CommandFor = (key: string) => Command;

/** Commands that a server refuses, and what that means. */
const REFUSED: ReadonlyArray<readonly [what: string, command: CommandFor, kind: RedisErrorKind, word: string]> = [
  ['an unknown command', () => ['NOSUCHCOMMAND', 'x'], 'unsupported', 'ERR'],
  ['a command without its arguments', () => ['XADD'], 'unsupported', 'ERR'],
  ['an option that does not exist', (key) => ['XREAD', 'NOOPTION', 1, 'STREAMS', key, '0'], 'unsupported', 'ERR'],
  ['an argument that is no number', (key) => ['XTRIM', key, 'MAXLEN', 'many'], 'refused', 'ERR'],
  ['a group that does not exist', (key) => ['XPENDING', key, 'none'], 'group-missing', 'NOGROUP'],
  ['a group that exists', (key) => ['XGROUP', 'CREATE', key, 'g', '0'], 'group-exists', 'BUSYGROUP'],
  ['a stream that does not exist', (key) => ['XINFO', 'STREAM', `${key}:none`], 'stream-gone', 'ERR'],
  ['a key of another type', (key) => ['LPUSH', key, 'x'], 'wrong-type', 'WRONGTYPE'],
  ['an id that is too small', (key) => ['XADD', key, '1-1', 'msg', 'x'], 'refused', 'ERR'],
];

/** What errors of the server and the end of a connection mean, whichever way they come. */
export function errorCases(bench: CommandBench): void {
  const { way } = bench;
  const withGroup = async (): Promise<string> => {
    const key = `{${bench.key()}}`;
    const admin = await bench.admin(key);
    await admin.xadd(key, '*', 'msg', 'x');
    await admin.xgroup('CREATE', key, 'g', '0');
    return key;
  };

  describe('an error', () => {
    it.each(REFUSED)('for %s has the same meaning by every method', async (_, command, kind, word) => {
      const key = await withGroup();
      const channel = await bench.channel('control', key);
      const outcomes = await Promise.all([
        channel.command(command(key), 'utf8').catch((error: unknown) => error),
        channel.command(command(key), 'buffer').catch((error: unknown) => error),
        channel.pages([command(key)], (name) => name).catch((error: unknown) => error),
        ...(await channel.commands([['ECHO', 'a'], command(key), ['ECHO', 'b']], 'utf8')),
      ]);
      expect([outcomes[3], outcomes[5]]).toEqual(['a', 'b']);
      const errors = [outcomes[0], outcomes[1], outcomes[2], outcomes[4]] as Error[];
      expect(errors.map(classifyRedisError)).toEqual([kind, kind, kind, kind]);
      expect(errors.map(replyWord)).toEqual([word, word, word, word]);
      // Neither the command nor its arguments, which may be a payload.
      expect(errors.map((error) => Object.keys(error).filter((name) => name !== 'name'))).toEqual([[], [], [], []]);
    });

    it('for a script that is not loaded, or for scripts that are not permitted, is recognised', async () => {
      const key = await withGroup();
      const channel = await bench.channel('control', key);
      const [error] = await channel.commands([['EVALSHA', 'f'.repeat(40), 1, key]], 'utf8');
      expect(classifyRedisError(error)).toBe(way.may.scripts ? 'retryable' : 'permission');
    });

    it('inside a script has the meaning that it has outside', async () => {
      if (!way.may.scripts) return;
      const key = await withGroup();
      const channel = await bench.channel('control', key);
      const source = "return redis.call('XPENDING', KEYS[1], 'none')";
      const [error] = await channel.commands([['EVAL', source, 1, key]], 'utf8');
      expect(classifyRedisError(error)).toBe('group-missing');
    });

    it('for a server without memory is recognised, and other replies around it are not lost', async () => {
      const key = await withGroup();
      const admin = await bench.admin(key);
      await admin.config('SET', 'maxmemory', '1');
      try {
        const outcomes = await bench.writing.appending.append(key, [{ id: '*', fields: ['msg', 'x'] }]);
        expect(outcomes.map(classifyRedisError)).toEqual(['no-memory']);
        expect(await bench.control.reading.streamInfo(key)).toMatchObject({ length: 1 });
      } finally {
        await admin.config('SET', 'maxmemory', '0');
      }
    });

    it('for a slot of another node is recognised', async () => {
      if (!way.isCluster) return;
      const key = await withGroup();
      const own = await bench.channel('control', key);
      const nodes = await Promise.all([0, 1].map((index) => bench.connections.control.readyNode(index, 10_000)));
      const other = nodes.find((node) => node?.route.channel !== own);
      const outcomes = await other?.route.channel.commands([['XLEN', key]], 'utf8');
      expect(outcomes?.map(classifyRedisError)).toEqual(['moved']);
      const crossed = await own.commands([['XREAD', 'STREAMS', key, `${key}x`, '{y}', '0', '0', '0']], 'utf8');
      expect(crossed.map(classifyRedisError)).toEqual(['retryable']);
    });
  });

  describe('a connection that ends', () => {
    it('fails what waits for a reply, and is replaced', async () => {
      const key = await withGroup();
      const { reading, connection } = await bench.reader(key);
      const admin = await bench.admin(key);
      const { epoch } = connection;
      const read = reading.readGroup({ group: 'g', consumer: 'c', streamKeys: [key], count: 1 });
      expect((await read).map((page) => page.entries.length)).toEqual([1]);
      const blocked = reading
        .readGroup({ group: 'g', consumer: 'c', streamKeys: [key], count: 1, block: 10_000 })
        .catch((error: unknown) => error);
      await until('the read blocks', async () => /blocked_clients:[1-9]/.test(await admin.info('clients')));
      await killBlocked();
      const error = await blocked;
      expect(error).toBeInstanceOf(ConnectionError);
      expect((error as Error).cause).toBeInstanceOf(ConnectionLost);
      expect(classifyRedisError(error)).toBe('connection');
      await until('the connection is replaced', () => connection.epoch > epoch && connection.channel !== undefined);
      await admin.xadd(key, '*', 'msg', 'y');
      const pages = await reading.readGroup({ group: 'g', consumer: 'c', streamKeys: [key], count: 1, block: 10_000 });
      expect(pages.map((page) => page.entries.map(({ fields }) => String(fields?.[1])))).toEqual([['y']]);

      async function killBlocked(): Promise<void> {
        const lines = String(await admin.client('LIST')).split('\n');
        const ids = lines.filter((line) => line.includes(' cmd=xreadgroup ')).map((line) => /id=(\d+)/.exec(line)?.[1]);
        for (const id of ids) await admin.call('CLIENT', 'KILL', 'ID', id as string);
      }
    });
  });
}
