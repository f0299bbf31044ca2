import { once } from 'node:events';
import type { LoadBalancedOptions } from '../../lib/engine/options/options.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { BlockingChildInput } from './blocking-process.js';

// A consumer whose work blocks its event loop: it prints what it begins and ends, every error of its consumer, and why it fails.
const input = JSON.parse(process.argv[2] as string) as BlockingChildInput;
const print = (line: string): void => void process.stdout.write(`${line}\n`);

async function run(): Promise<void> {
  const { connection, streamer: streamerOptions, streamKey, options, block, reads, isHeld } = input;
  const streamer = await RedisStreamer.connect(connection, streamerOptions);
  const consumer = await streamer.createConsumer(streamKey, {
    ...options,
    autoCommit: 'disabled',
  } as LoadBalancedOptions & { autoCommit: 'disabled' });
  consumer.on('error', (error) => print(`error ${error.message}`));
  print('ready');
  for (let read = 0; read < (reads ?? Infinity); read += 1) {
    const message = await consumer.next();
    if (isHeld) {
      print(`holds ${message.text()}`);
      await once(process.stdin, 'data');
    }
    print(`begins ${message.text()}`);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, block);
    consumer.ack(message);
    await consumer.commit();
    print(`ends ${message.text()}`);
  }
  await streamer.disconnect();
  print('closed');
}

run().catch((error: unknown) => {
  print(`failed ${String(error)}`);
  process.exit(1);
});
