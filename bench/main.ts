import { version as node } from 'node:process';

import { acquireRedis } from '../test/support/redis-server.js';
import { emitToHandler } from './emit-to-handler.js';
import { engineRead } from './engine-read.js';
import { engineSend } from './engine-send.js';
import { compare } from './harness.js';

const COMPARISONS = { 'emit-to-handler': emitToHandler, 'engine-send': engineSend, 'engine-read': engineRead };

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (!(name in COMPARISONS))
    throw new Error(`There is no benchmark '${name}', only ${Object.keys(COMPARISONS).join(', ')}`);
}

const redis = await acquireRedis();
try {
  console.log(`Node ${node}, ${redis.origin}`);
  for (const [name, open] of Object.entries(COMPARISONS)) {
    if (wanted.length === 0 || wanted.includes(name)) await compare(await open(redis.url));
  }
} finally {
  await redis.stop();
}
