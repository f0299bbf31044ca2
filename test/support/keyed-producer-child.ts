import { KeyHashSharder } from '../../lib/engine/producing/sharder.js';
import { RedisStreamer } from '../../lib/engine/streamer.js';
import type { KeyedProducerInput, KeyedProducerLine } from './keyed-producer.js';

// The program of a producer that sends the numbers 0, 1, … of each of its keys in order, until SIGTERM.
const input = JSON.parse(process.argv[2] as string) as KeyedProducerInput;

/** Milliseconds between two rounds. */
const ROUND = 50;
/** Rounds in flight. */
const DEPTH = 4;

function report(line: KeyedProducerLine): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

async function run(): Promise<void> {
  const { connection, stream, name, keys, shards } = input;
  const streamer = await RedisStreamer.connect(connection, { timeout: 60_000 });
  const producer = await streamer.createProducer(stream, {
    sharder: new KeyHashSharder(shards),
    delivery: 'exactly-once',
  });
  let isLeaving = false;
  process.once('SIGTERM', () => (isLeaving = true));
  const rounds: Array<Promise<unknown>> = [];
  let round = 0;
  for (; !isLeaving; round += 1) {
    const sends = Array.from({ length: keys }, async (_, index) => {
      const key = `${name}${index}`;
      try {
        const { shardId } = await producer.send(`${key}:${round}`, { key });
        if (index === 0) report({ sent: round + 1, shardId });
      } catch (error) {
        report({ error: String(error) });
      }
    });
    rounds.push(Promise.all(sends));
    if (rounds.length >= DEPTH) await rounds.shift();
    await new Promise((resolve) => setTimeout(resolve, ROUND));
  }
  await Promise.all(rounds);
  report({ total: round });
  await producer.end();
  await streamer.disconnect();
  process.exit(0);
}

void run();
