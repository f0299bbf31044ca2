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
      reason: 'handled 5 times without success',
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
  let updated = text;
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
    const printed = shown.join('');
    if (IS_UPDATE) updated = updated.replace(block, () => printed);
    else if (isCompared) expect(comparable(printed)).toBe(comparable(block));
  }
  if (IS_UPDATE) writeFileSync(DOCUMENT, updated);
  expect(blocks.length).toBeGreaterThan(10);
});

/** The commands of the blocks of a document, each with what it prints. */
function commandsOf(document: string): string[] {
  const text = readFileSync(fileURLToPath(new URL(`../../${document}`, import.meta.url)), 'utf8');
  const blocks = [...text.matchAll(/```console\n(.*?)```/gs)].map(([, block = '']) => block);
  return blocks.flatMap((block) => block.split(/^(?=\$ nrs )/m)).map(comparable);
}

it('README.md shows the same as the documents of the tool', () => {
  const documented = new Set([...commandsOf('docs/cli.md'), ...commandsOf('docs/files.md')]);
  // A document cannot show a screen that is drawn again and again.
  const shown = commandsOf('README.md').filter((command) => !command.includes('--watch'));
  expect(shown.length).toBeGreaterThan(2);
  expect(shown.filter((command) => !documented.has(command))).toEqual([]);
});
