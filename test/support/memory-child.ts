import 'reflect-metadata';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setImmediate as turn, setTimeout as pause } from 'node:timers/promises';
import { NestFactory } from '@nestjs/core';
import type { MicroserviceOptions } from '@nestjs/microservices';

import { RedisStreamer, ServerRedisStreams } from '../../lib/index.js';
import type { AcknowledgingConsumer } from '../../lib/index.js';
import { moduleOf, onEvent } from './controllers.js';
import type {
  ConsumeInput,
  MemoryInput,
  MemoryReport,
  Peaks,
  ProduceInput,
  ServeInput,
  WaitInput,
} from './memory-process.js';

// The program of a process with little memory: it does its work, and reports its progress and its memory peaks.
const input = JSON.parse(process.argv[2] as string) as MemoryInput;
const MIB = 1024 * 1024;
const SAMPLE_INTERVAL = 5;
const REST = 500;
const peaks: Peaks = { rss: 0, heapUsed: 0, external: 0, arrayBuffers: 0 };
const commands = createInterface({ input: process.stdin });
const logger = { error: () => undefined, warn: () => undefined, log: () => undefined };

function sample(): void {
  const usage = process.memoryUsage();
  for (const kind of Object.keys(peaks) as Array<keyof Peaks>) {
    peaks[kind] = Math.max(peaks[kind], Math.round(usage[kind] / MIB));
  }
}

async function writeReport(at: string, counts: MemoryReport['counts'] = {}): Promise<void> {
  sample();
  // The memory of Buffers that the first collection frees is released one turn later.
  for (let round = 0; round < 2; round += 1) {
    globalThis.gc?.();
    await turn();
  }
  const { heapUsed, external } = process.memoryUsage();
  const report: MemoryReport = { at, counts, peaks, live: Math.round((heapUsed + external) / MIB) };
  process.stdout.write(`${JSON.stringify(report)}\n`);
}

/** The numbers that were received, one bit for each. */
class Seen {
  readonly #bits: Uint8Array;
  different = 0;
  repeated = 0;

  constructor(size: number) {
    this.#bits = new Uint8Array(Math.ceil(size / 8));
  }

  add(number: number): void {
    const bit = 1 << (number & 7);
    const byte = this.#bits[number >> 3] as number;
    if (byte & bit) {
      this.repeated += 1;
    } else {
      this.different += 1;
      this.#bits[number >> 3] = byte | bit;
    }
  }
}

/** Runs a service with slow handlers until the next command. */
async function serve({ connection, stream, takes, backlog }: ServeInput): Promise<void> {
  const seen = new Seen(backlog);
  const controller = onEvent(stream, async ({ n }: { n: number }) => {
    await pause(takes);
    seen.add(n);
  });
  const strategy = new ServerRedisStreams({ connection, group: 'service', logger });
  const module = moduleOf({ controllers: [controller] });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(module, { strategy, logger: false });
  await app.listen();
  await writeReport('begun');
  await once(commands, 'line');
  await writeReport('full', { handled: seen.different });
  await app.close();
  await writeReport('done', { handled: seen.different, repeated: seen.repeated });
}

/** Pages of 200 messages, of which one is not handled, stay in the process only as long as their messages. */
async function wait({ connection, stream, ordered, every, backlog }: WaitInput): Promise<void> {
  let handled = 0;
  let failed = 0;
  const controller = onEvent(
    stream,
    ({ n }: { n: number }) => {
      if (n % every > 0) handled += 1;
      else {
        failed += 1;
        throw new Error('the database is down');
      }
    },
    { ordered },
  );
  const retry = { attempts: 3, delay: 600_000, maxDelay: 600_000 };
  const sizes = { batchSize: 200, prefetch: 400 };
  const strategy = new ServerRedisStreams({ connection, group: 'service', logger, retry, ...sizes });
  const module = moduleOf({ controllers: [controller] });
  const app = await NestFactory.createMicroservice<MicroserviceOptions>(module, { strategy, logger: false });
  await writeReport('begun');
  await app.listen();
  while (handled < backlog - backlog / every) await pause(20);
  // The connection keeps the last bytes that it received.
  await writeReport('waiting', { handled, failed });
  await app.close();
}

/** Reads `read` messages; pauses after every `pauseEvery` of them, so that the buffer becomes full. */
async function consume({ connection, stream, options, read, pauseEvery }: ConsumeInput): Promise<void> {
  const streamer = await RedisStreamer.connect(connection, { logger });
  const consumer = (await streamer.createConsumer(stream, options)) as AcknowledgingConsumer;
  const seen = new Seen(read);
  for (let count = 1; count <= read; count += 1) {
    const message = await consumer.next();
    // The digits after `{"n":`; parsing the whole payload would take most of the time.
    seen.add(Number.parseInt(message.payload.toString('latin1', 5, 15), 10));
    consumer.ack(message);
    if (pauseEvery !== undefined && count % pauseEvery === 0) await pause(REST);
    if (count === Math.ceil(read / 10)) await writeReport('begun');
  }
  await writeReport('done', { different: seen.different, repeated: seen.repeated });
  await streamer.disconnect();
}

/** Sends without a pause until the queue is full, then until `refusals` sends were refused. */
async function produce({ connection, stream, by, text, size, refusals }: ProduceInput): Promise<void> {
  const streamer = await RedisStreamer.connect(connection, { logger });
  const producer = await streamer.createProducer(stream);
  const counts = { accepted: 0, refused: 0, confirmed: 0, failed: 0 };
  const onError = (error: unknown): void => {
    counts[(error as { code?: string }).code === 'ERR_QUEUE_FULL' ? 'refused' : 'failed'] += 1;
  };
  producer.on('error', onError);
  const create = (n: number): string | Uint8Array => {
    const head = `{"n":${n}`.padEnd(15);
    const payload = Buffer.from(head + (text === 'wide' ? 'Ω' : '.').repeat(size - head.length));
    // A flat string, as a serializer returns it, not a rope of concatenated parts.
    return text === undefined ? payload : payload.toString();
  };
  // A first send, so that the measurement starts with warm connections.
  await producer.send(create(0));
  await writeReport('begun');
  await once(commands, 'line');
  for (let payload = create(counts.accepted); counts.refused < refusals;) {
    const before = producer.queued;
    if (by === 'enqueue') producer.enqueue(payload);
    else producer.send(payload).then(() => (counts.confirmed += 1), onError);
    const isTaken = producer.queued > before;
    if (isTaken) payload = create((counts.accepted += 1));
    // The event loop must turn, so that batches are written and refusals are reported.
    if (!isTaken || counts.accepted % 100 === 0) await turn();
  }
  await writeReport('full', counts);
  await once(commands, 'line');
  await producer.flush().catch(({ errors, message }: AggregateError) => {
    Object.assign(counts, { kept: errors.length, counted: Number.parseInt(message, 10) });
  });
  await writeReport('done', counts);
  await streamer.disconnect();
}

setInterval(sample, SAMPLE_INTERVAL).unref();
// The parent process has exited.
commands.on('close', () => process.exit());
if (input.work === 'serve') await serve(input);
else if (input.work === 'wait') await wait(input);
else if (input.work === 'consume') await consume(input);
else await produce(input);
process.exit();
