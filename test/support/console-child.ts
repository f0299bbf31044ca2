import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { ClusterConnection } from '../../lib/index.js';
import type { RedisOptions } from 'ioredis';

export interface ConsoleInput {
  readonly connection: string | RedisOptions | ClusterConnection;
}

export type ConsoleLine =
  { readonly event: 'sent' | 'closed' } | { readonly event: 'failed' | 'printed' | 'uncaught'; readonly text: string };

/*
 * Connects, sends one message, and closes when its input ends; it reports what anything prints and what nothing catches. A
 * program of its own: inside Jest errors of Node.js are of another realm, and ioredis does not print them.
 */

const report = (line: ConsoleLine): boolean => process.stdout.write(`${JSON.stringify(line)}\n`);
const print = (...parts: unknown[]): void => void report({ event: 'printed', text: parts.join(' ') });
for (const method of ['error', 'warn', 'log', 'info'] as const) console[method] = print;
process.on('uncaughtException', (error) => report({ event: 'uncaught', text: String(error.stack) }));
process.on('unhandledRejection', (reason) => report({ event: 'uncaught', text: String(reason) }));

const { connection } = JSON.parse(process.argv[2] as string) as ConsoleInput;
const ignore = (): void => undefined;
const streamer = new RedisStreamer(connection, { logger: { error: ignore, warn: ignore, log: ignore } });
try {
  await streamer.connect();
  const producer = await streamer.createProducer('s');
  await producer.send('x');
  report({ event: 'sent' });
} catch (error) {
  report({ event: 'failed', text: String((error as Error).message) });
}
process.stdin.on('end', () => void streamer.disconnect().then(() => report({ event: 'closed' }))).resume();
