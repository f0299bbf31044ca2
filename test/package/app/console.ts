import 'reflect-metadata';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Module, type INestApplication } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { RedisStreamer, RedisStreamsModule } from 'nestjs-redis-streams';
import { RedisStreamsConsoleModule } from 'nestjs-redis-streams-console';

// The smallest application with a console, on Express or Fastify, whichever is installed. It is asked for its pages and for what
// they ask for, and ends by itself when nothing is left open.
const stream = process.env['CHECK_STREAM'] ?? 'package-check';
const connection = process.env['CHECK_REDIS_URL'];

const installed = createRequire(join(process.cwd(), 'main.js'));

@Module({
  imports: [RedisStreamsModule.forRoot({ connection }), RedisStreamsConsoleModule.forRoot({ guards: [] })],
})
class AppModule {}

function expectEqual(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: expected ${String(expected)}, got ${String(actual)}`);
}

async function createApp(): Promise<INestApplication> {
  const options = { logger: ['error', 'warn'] as Array<'error' | 'warn'>, forceCloseConnections: true };
  try {
    const { FastifyAdapter } = installed('@nestjs/platform-fastify');
    return await NestFactory.create(AppModule, new FastifyAdapter(), options);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    return NestFactory.create(AppModule, options);
  }
}

async function main(): Promise<void> {
  const streamer = await RedisStreamer.connect(connection);
  await (await streamer.createProducer(stream)).send('x');
  await streamer.disconnect();

  const app = await createApp();
  await app.listen(0, '127.0.0.1');
  const get = async (path: string): Promise<string> => {
    const response = await fetch(`${await app.getUrl()}/console/${path}`);
    expectEqual(response.status, 200, `the status of '${path}'`);
    return response.text();
  };
  const page = await get('');
  const assets = [...page.matchAll(/assets\/[\w.-]+/g)].map(([path]) => path);
  expectEqual(assets.length > 0, true, 'whether the page names assets');
  for (const asset of assets) await get(asset);
  const { version } = JSON.parse(await get('api/session')) as { version: string };
  expectEqual(version, installed('nestjs-redis-streams-console/package.json').version, 'the version');
  const { messages } = JSON.parse(await get(`api/messages?stream=${stream}`)) as { messages: unknown[] };
  expectEqual(messages.length, 1, 'the number of messages');

  const events = await fetch(`${await app.getUrl()}/console/api/live?view=${encodeURIComponent('{"page":"streams"}')}`);
  const decoder = new TextDecoder();
  let text = '';
  for await (const chunk of events.body as ReadableStream<Uint8Array>) {
    text += decoder.decode(chunk, { stream: true });
    if (text.includes(`"stream":"${stream}"`)) break;
  }
  await app.close();
  console.log('message received');
}

main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
