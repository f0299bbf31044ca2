import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { Redis } from 'ioredis';
import { RedisStreamer } from '../../lib/engine.js';
import { deadLetterFields } from '../support/dead-letter-fields.js';
import { RedisServer } from '../support/redis-server.js';
import { runTool } from '../support/tool.js';

/** `UPDATE_DOCS=1 npm run test:cli` writes what the commands print into the document. */
const DOCUMENT = fileURLToPath(new URL('../../docs/cli.md', import.meta.url));
const IS_UPDATE = process.env['UPDATE_DOCS'] !== undefined;

let server: RedisServer;
beforeAll(async () => {
  // Its version and persistence are in what the doctor prints.
  server = await RedisServer.start({ args: ['--appendonly', 'no'] });
  const redis = new Redis(server.url);
  const start = Date.now() - 90_000;
  for (const [index, item] of ['tea', 'coffee', 'cocoa', 'milk', 'sugar'].entries()) {
    await redis.xadd('orders', `${start + index * 1_000}-0`, 'msg', `{"item":"${item}"}`, 'h:source', 'shop');
  }
  await redis.xgroup('CREATE', 'orders', 'billing', '$');
  await redis.xgroup('CREATE', 'orders', 'workers', '0');
  await redis.xreadgroup('GROUP', 'workers', 'worker-1', 'COUNT', 3, 'STREAMS', 'orders', '>');
  await redis.xack('orders', 'workers', `${start}-0`, `${start + 1_000}-0`);
  for (const [index, message] of ['no stock for tea', 'no stock for coffee'].entries()) {
    const own = {
      stream: 'orders',
      key: 'orders',
      id: `${start + index * 1_000}-0`,
      group: 'workers',
      consumer: 'worker-1',
      deliveryCount: '5',
      firstFailure: new Date(start + 2_000).toISOString(),
      lastFailure: new Date(start + 60_000).toISOString(),
      reason: 'failed 5 times',
      errorName: 'StockError',
      errorMessage: message,
      errorStack: `StockError: ${message}\n    at Stock.take (/app/stock.js:41:11)\n    at OrdersController.handle (/app/orders.controller.js:18:22)`,
    };
    const payload = `{"item":"${index === 0 ? 'tea' : 'coffee'}"}`;
    await redis.xadd('orders.dead', '*', ...deadLetterFields(payload, own, { source: 'shop' }));
  }
  await redis.quit();
  const streamer = await RedisStreamer.connect(server.url);
  const producer = await streamer.createProducer('orders');
  await producer.send('{"item":"cake"}', { delay: 3_600_000 });
  await streamer.disconnect();
});
afterAll(() => server.stop());

/** Words of a line of a shell, in which only single quotes are special. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, bare]) => quoted ?? bare ?? '');
}

/** Numbers, units of time and the widths of columns differ from run to run. */
function comparable(text: string): string {
  return text
    .replace(/\b[0-9a-f]{18}\b/g, '0')
    .replace(/\d+(?:[.:-]\d+)*/g, '0')
    .replace(/\b0 (?:ms|s|min|h|d)\b/g, '0 s')
    .replace(/[ \t]+/g, ' ');
}

it('docs/cli.md shows what the commands print', async () => {
  const text = readFileSync(DOCUMENT, 'utf8');
  const blocks = [...text.matchAll(/```console\n(.*?)```/gs)].map(([, block = '']) => block);
  // Other servers count and offer other things.
  const isCompared = server.log.includes('version=7.0.');
  const printed: string[] = [];
  for (const block of blocks) {
    const shown = [];
    const lines = [...block.matchAll(/^\$ nrs (.*)$/gm)].map(([, line = '']) => line);
    const run = async (line: string): Promise<string> => {
      const { stdout, stderr } = await runTool(wordsOf(line), { url: server.url });
      return `$ nrs ${line}\n${stdout}${stderr}`;
    };
    // Those that change something one after another.
    if (block.includes('--yes')) for (const line of lines) shown.push(await run(line));
    else shown.push(...(await Promise.all(lines.map(run))));
    printed.push(shown.join(''));
  }
  expect(blocks.length).toBeGreaterThan(10);
  if (IS_UPDATE) {
    const updated = blocks.reduce(
      (document, block, index) => document.replace(block, () => printed[index] ?? ''),
      text,
    );
    writeFileSync(DOCUMENT, updated);
    return;
  }
  expect(printed.map(comparable)).toEqual((isCompared ? blocks : printed).map(comparable));
});
