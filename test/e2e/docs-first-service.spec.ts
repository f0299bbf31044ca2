import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from '@jest/globals';

import { bundleProgram, useProgramFolder } from '../support/document-programs.js';
import { freePort, isListening } from '../support/free-port.js';
import { filesOf } from '../support/page-files.js';
import { usePrograms } from '../support/programs.js';
import { pendingOf, useStreams } from '../support/streams.js';
import { until } from '../support/until.js';

const PAGE = fileURLToPath(new URL('../../docs/first-service.md', import.meta.url));
/** For the start of three processes and six seconds of work, on two busy cores. */
const LIMIT = 240_000;
const ORDERS = [1, 2, 3, 4];

const start = usePrograms();
const streams = useStreams();
const folder = useProgramFolder();
const files = filesOf(PAGE);

/** Compiles a file of the page; returns what starts it, as often as needed. */
async function programOf(path: string, env: NodeJS.ProcessEnv) {
  const outfile = join(folder, `${path.replaceAll('/', '-')}.js`);
  await bundleProgram({ title: path, code: files.get(path) ?? '' }, outfile);
  return () => start(process.execPath, [outfile], { env: { ...process.env, REDIS_URL: streams.url, ...env } });
}

it(
  'the first service: each order is handled, although the service is killed while it works',
  async () => {
    const port = await freePort();
    const startServer = await programOf('src/server.ts', {});
    const startGateway = await programOf('src/gateway.ts', { PORT: String(port) });
    const [killed, gateway] = [startServer(), startGateway()];
    await Promise.all([killed, gateway].map((program) => program.untilPrinted('successfully started')));
    // Nest prints that before the port is open.
    await until('the gateway listens', () => isListening(port));

    for (const id of ORDERS) {
      const response = await fetch(`http://127.0.0.1:${port}/orders`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', connection: 'close' },
        body: JSON.stringify({ id, item: 'tea' }),
      });
      expect(await response.json()).toMatchObject({ streamKey: 'orders', id: expect.any(String) });
    }
    await killed.untilPrinted('order 2: started, delivery 1');
    await killed.kill('SIGKILL');
    expect(await pendingOf(streams.redis, 'orders', 'orders-service')).not.toEqual([]);

    const restarted = startServer();
    await restarted.untilPrinted('order 4: done');
    expect(restarted.output).toContain('started, delivery 2');
    const all = killed.output + restarted.output;
    expect(ORDERS.filter((id) => !all.includes(`order ${id}: done`))).toEqual([]);
    await until('nothing is pending', async () => {
      return (await pendingOf(streams.redis, 'orders', 'orders-service')).length === 0;
    });
    await Promise.all([restarted.kill('SIGTERM'), gateway.kill('SIGTERM')]);
    expect(await streams.redis.exists('orders.dead')).toBe(0);
  },
  LIMIT,
);
