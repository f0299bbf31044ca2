import { Session } from 'node:inspector';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

// Loads the engine's entry point alone, lists the files that this loaded, and passes one message through a real Redis.
const stream = process.env['CHECK_STREAM'] ?? 'package-check';
const url = process.env['CHECK_REDIS_URL'];
const build = process.env['CHECK_BUILD'] ?? 'esm';
const modules = pathToFileURL(join(process.cwd(), 'node_modules')).href;
const own = `${modules}/nestjs-redis-streams/`;

const importEngine = () => import('nestjs-redis-streams/engine');

async function loadEngine(): ReturnType<typeof importEngine> {
  if (build === 'esm') return importEngine();
  return createRequire(join(process.cwd(), 'engine.js'))('nestjs-redis-streams/engine');
}

/** Every file of a package that is compiled from the first call on, as a URL; ES modules and CommonJS modules alike. */
function recordFiles(): { files: Set<string>; stop: () => void } {
  const files = new Set<string>();
  const session = new Session();
  session.connect();
  session.on('Debugger.scriptParsed', ({ params }) => {
    const file = params.url.startsWith('/') ? pathToFileURL(params.url).href : params.url;
    if (file.startsWith(`${modules}/`)) files.add(file);
  });
  session.post('Debugger.enable');
  return { files, stop: () => session.disconnect() };
}

function expectNone(files: string[], what: string): void {
  if (files.length > 0) throw new Error(`${what} loaded by the engine: ${files.slice(0, 5).join(', ')}`);
}

function checkFiles(files: string[]): void {
  // The list can be relied on only if it has the files that are certainly loaded.
  for (const known of [`${own}dist/${build}/engine.js`, `${modules}/ioredis/built/index.js`]) {
    if (!files.includes(known)) throw new Error(`${known} is missing from the list of loaded files`);
  }
  expectNone(
    files.filter((file) => /\/node_modules\/(@nestjs|rxjs|reflect-metadata)\//.test(file)),
    'Nest or rxjs',
  );
  expectNone(
    files.filter((file) => file.startsWith(own) && !file.startsWith(`${own}dist/${build}/`)),
    'the other build',
  );
}

async function main(): Promise<void> {
  const { files, stop } = recordFiles();
  const started = performance.now();
  const { RedisStreamer } = await loadEngine();
  const duration = performance.now() - started;
  stop();
  checkFiles([...files]);

  const streamer = await RedisStreamer.connect(url);
  const consumer = await streamer.createConsumer(stream, { mode: 'real-time', autoStreamReset: 'earliest' });
  const producer = await streamer.createProducer(stream);
  const receipt = await producer.send('hello');
  const message = await consumer.next();
  if (message.id !== receipt.id) throw new Error(`expected entry ${receipt.id}, got ${message.id}`);
  await streamer.disconnect();
  console.log(`loaded in ${duration.toFixed(0)} ms: ${files.size} files of packages`);
  console.log('message received');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
