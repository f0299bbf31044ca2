/** A program: an idle client of ioredis, or an idle consumer of the engine. Prints what it took; see `rows/footprint.ts`. */
import { setTimeout as pause } from 'node:timers/promises';

import type * as Engine from '../../lib/engine.js';
import type { Footprint } from '../row.js';

/** Milliseconds until connecting and start-up are over. */
const SETTLING = 2_000;

const [what, url, key] = process.argv.slice(2) as [string, string, string];

/** The library of this checkout: another commit's has its own benchmark. */
async function consume(): Promise<void> {
  const { RedisStreamer } = (await import(engine)) as typeof Engine;
  importTime = performance.now() - begin;
  const streamer = await RedisStreamer.connect(url);
  const consumer = await streamer.createConsumer(key, { mode: 'load-balanced', group: 'idle', mkStream: true });
  consumer.next().catch(() => undefined);
}

async function connect(): Promise<void> {
  const { Redis } = await import('ioredis');
  importTime = performance.now() - begin;
  await new Redis(url).ping();
}

const engine = new URL('../../lib/engine.js', import.meta.url).href;
const begin = performance.now();
let importTime = 0;
await (what === 'engine' ? consume() : connect());
await pause(SETTLING);
console.log(JSON.stringify({ importTime, memory: process.memoryUsage.rss() } satisfies Footprint));
process.exit();
