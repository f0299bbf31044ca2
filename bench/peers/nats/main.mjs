// A Nest application that emits events to itself over NATS JetStream, as a contender of the benchmarks.
//
//     node main.mjs EVENTS IN_FLIGHT BYTES
//
// It starts a server of its own and prints `{}` when it is connected. For each line of its input it does one round, and
// prints its milliseconds, the milliseconds of CPU time of this process, and its resident memory in bytes. It ends with
// its input.

import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';

import { openApp } from './app.mjs';
import { startServer } from './server.mjs';

/** Milliseconds. A round that takes longer hangs, or waits for an event that was lost. */
const TIMEOUT = 120_000;
const POLL = 20;

const [events, inFlight, bytes] = process.argv.slice(2).map(Number);
const data = 'x'.repeat(bytes - '""'.length);

// If the harness ends during a round, the next result has no reader, and then the input ends.
process.stdout.on('error', () => undefined);

let left = 0;
let onAllHandled = () => undefined;
const server = await startServer();
const app = await openApp(server.address, () => {
  left -= 1;
  if (left === 0) onAllHandled();
});
console.log('{}');
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
while (!(await lines.next()).done) {
  const overdue = setTimeout(() => {
    throw new Error(`A round takes more than ${TIMEOUT} ms`);
  }, TIMEOUT);
  const start = performance.now();
  const cpuBefore = process.cpuUsage();
  await round();
  const elapsed = performance.now() - start;
  const { user, system } = process.cpuUsage(cpuBefore);
  const cost = { elapsed, cpu: (user + system) / 1_000, memory: process.memoryUsage.rss() };
  while (!(await app.areAllAcknowledged())) await delay(POLL);
  await app.removeAll();
  clearTimeout(overdue);
  console.log(JSON.stringify(cost));
}
await server.stop();
process.exit();

/** From the first emit() until the handler has had all events. */
async function round() {
  left = events;
  const allHandled = new Promise((resolve) => (onAllHandled = resolve));
  let unsent = events;
  const lane = async () => {
    while (unsent > 0) {
      unsent -= 1;
      await app.emit(data);
    }
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
  await allHandled;
}
