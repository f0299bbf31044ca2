import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, describe, expect, it, jest } from '@jest/globals';
import { Redis, type RedisOptions } from 'ioredis';
import { requireServerBinary } from '../support/server-binary.js';
import { redisUrl } from '../support/redis.js';
import { acquireRedis, RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

const cleanups: Array<() => unknown> = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

const started = async (options?: Parameters<typeof RedisServer.start>[0]): Promise<RedisServer> => {
  const server = await RedisServer.start(options);
  cleanups.push(() => server.stop());
  return server;
};

const connected = (url: string, options: RedisOptions = {}): Redis => {
  const client = new Redis(url, { retryStrategy: () => null, maxRetriesPerRequest: 0, protocol: 2, ...options });
  client.on('error', () => undefined);
  cleanups.push(() => client.status !== 'end' && client.disconnect());
  return client;
};

const isRunning = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

describe('acquireRedis', () => {
  let bin: string;
  beforeAll(async () => {
    bin = (await requireServerBinary()).path;
  });

  it('prefers the server that REDIS_URL names, and leaves it running', async () => {
    const redis = await acquireRedis({ env: { REDIS_URL: redisUrl(), REDIS_SERVER_BIN: bin } });
    await redis.stop();

    expect(redis).toMatchObject({ url: redisUrl(), origin: expect.stringContaining('REDIS_URL') });
    await expect(connected(redis.url).ping()).resolves.toBe('PONG');
  });

  it('fails with a clear error when nothing answers at REDIS_URL', async () => {
    const silent = createServer().listen(0, '127.0.0.1');
    await once(silent, 'listening');
    const { port } = silent.address() as { port: number };
    await new Promise((resolve) => silent.close(resolve));

    await expect(acquireRedis({ env: { REDIS_URL: `redis://127.0.0.1:${port}` } })).rejects.toThrow(
      `nothing answers at 127.0.0.1:${port}`,
    );
  });

  it('starts a private server from REDIS_SERVER_BIN', async () => {
    const redis = await acquireRedis({ env: { REDIS_SERVER_BIN: bin } });
    cleanups.push(() => redis.stop());

    expect(redis.origin).toContain(`(${bin}, named by REDIS_SERVER_BIN)`);
    expect(redis.url).not.toBe(redisUrl());
    await expect(connected(redis.url).ping()).resolves.toBe('PONG');
  });

  it('refuses a REDIS_SERVER_BIN that cannot be run', async () => {
    await expect(acquireRedis({ env: { REDIS_SERVER_BIN: '/no/such/program' } })).rejects.toThrow(
      'REDIS_SERVER_BIN names "/no/such/program"',
    );
  });

  it('lists every way to get a server when there is none', async () => {
    jest.unstable_mockModule('testcontainers', () => ({
      getContainerRuntimeClient: () => Promise.reject(new Error('no runtime answers')),
    }));

    await expect(acquireRedis({ env: { PATH: '' } })).rejects.toThrow(
      /REDIS_URL.*REDIS_SERVER_BIN.*PATH.*Testcontainers.*apt-get/s,
    );
  });

  it('reports why a container cannot be started', async () => {
    jest.unstable_mockModule('testcontainers', () => ({
      getContainerRuntimeClient: () => Promise.reject(new Error('no runtime answers')),
    }));

    await expect(acquireRedis({ source: 'container', env: {} })).rejects.toThrow('no runtime answers');
  });
});

describe('RedisServer', () => {
  it('keeps confirmed writes through SIGKILL and a restart in the same place', async () => {
    const server = await started();
    const { pid, url, dir } = server;
    const id = await connected(url).xadd('orders', '*', 'msg', 'one');

    await server.kill();
    expect(server.pid).toBeUndefined();
    await expect(connected(url).ping()).rejects.toThrow('Connection is closed.');
    await server.restart();

    expect(server).toMatchObject({ url, dir });
    expect(server.pid).not.toBe(pid);
    await expect(connected(url).xrange('orders', '-', '+')).resolves.toEqual([[id, ['msg', 'one']]]);
  });

  it('does not answer while paused, and keeps its connections', async () => {
    const server = await started();
    const client = connected(server.url, { commandTimeout: 200 });
    const connection = await client.client('ID');

    server.pause();
    await expect(client.ping()).rejects.toThrow('Command timed out');
    server.resume();

    await expect(client.client('ID')).resolves.toBe(connection);
  });

  it('keeps a given directory when the server is stopped', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'redis-server-kept-'));
    cleanups.push(() => rmSync(dir, { recursive: true }));
    const server = await started({ dir });
    expect(server.dir).toBe(dir);

    await server.stop();

    expect(existsSync(join(dir, 'server.log'))).toBe(true);
  });

  it('leaves no process and no directory after stop, and a second stop is harmless', async () => {
    const server = await started();
    const { pid, dir } = server;

    await server.stop();
    await server.stop();

    expect({ isRunning: isRunning(pid ?? 0), isThere: existsSync(dir) }).toEqual({ isRunning: false, isThere: false });
  });

  it('does not take another server on its port for its own', async () => {
    const { port } = await started();
    await expect(RedisServer.start({ port })).rejects.toThrow(/address already in use/i);
  });

  it('repeats the log of a server that refuses to start', async () => {
    await expect(RedisServer.start({ args: ['--maxmemory', 'plenty'] })).rejects.toThrow(
      /ended with code 1.*maxmemory/s,
    );
  });

  it.each([
    ['running', ''],
    ['paused', 'server.pause();'],
  ])('leaves no process and no directory when its parent is killed with SIGKILL (server %s)', async (_, extra) => {
    const parent = spawn(process.execPath, ['--require', 'esbuild-register', '--eval', startInChild(extra)], {
      cwd: repository,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = await once(createInterface({ input: parent.stdout }), 'line');
    const { pid, dir } = JSON.parse(line) as { pid: number; dir: string };
    expect({ isRunning: isRunning(pid), isThere: existsSync(dir) }).toEqual({ isRunning: true, isThere: true });

    parent.kill('SIGKILL');

    await until('the server has ended', () => !isRunning(pid));
    await until('its directory is gone', () => !existsSync(dir));
  });
});

const repository = fileURLToPath(new URL('../..', import.meta.url));

/** A program that starts a server, prints its pid and directory, and keeps running. */
function startInChild(extra: string): string {
  return `
    const { RedisServer } = require('./test/support/redis-server.ts');
    RedisServer.start().then((server) => {
      ${extra}
      console.log(JSON.stringify({ pid: server.pid, dir: server.dir }));
    });`;
}
