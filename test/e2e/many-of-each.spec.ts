import { runInThisContext } from 'node:vm';
import { afterEach, beforeEach, expect, it } from '@jest/globals';
import { firstValueFrom } from 'rxjs';

import type { RedisStreamer, StreamConsumer } from '../../lib/index.js';
import { cutConnections } from '../support/connections.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** Three times as many as Node.js takes without a warning. */
const MANY = 30;
const times = <T>(make: (index: number) => T): T[] => Array.from({ length: MANY }, (_, index) => make(index));

/** Tests get a copy of `process` from Jest, which emits no warnings of too many listeners. */
const realProcess = runInThisContext('process') as NodeJS.Process;
const warnings: string[] = [];
const onWarning = (warning: Error): void => void warnings.push(`${warning.name}: ${warning.message}`);

beforeEach(() => {
  warnings.length = 0;
  realProcess.on('warning', onWarning);
});
afterEach(() => {
  realProcess.off('warning', onWarning);
});

/** Node.js emits a warning in a later turn. */
async function expectNoWarning(): Promise<void> {
  await new Promise(setImmediate);
  expect(warnings).toEqual([]);
}

it('many consumers and producers of one streamer, which share a signal, cause no warning of too many listeners', async () => {
  const streamer = nest.client().unwrap<RedisStreamer>();
  const key = uniqueName('shared');
  const producers = await Promise.all(times(() => streamer.createProducer(key, { maxQueued: 4 })));
  const consumers: StreamConsumer[] = await Promise.all(
    times((n) => streamer.createConsumer(key, { mode: 'load-balanced', group: `g${n}`, mkStream: true })),
  );
  const { signal, abort } = endable();
  const waits = [...consumers, ...times(() => consumers[0] as StreamConsumer)].map((each) => each.next({ signal }));
  await cutConnections(nest.redis);
  for (const producer of producers) for (let n = 0; n < 3; n += 1) producer.enqueue('x');
  await Promise.all(producers.map((producer) => producer.ready({ signal })));
  await Promise.all(waits);
  const idle = consumers.map((each) => Promise.allSettled(times(() => each.next({ signal }))));
  await expectNoWarning();

  abort();
  await Promise.all(idle);
  await Promise.all([...producers, ...consumers].map((each) => each.end()));
  await expectNoWarning();
});

it('many servers and clients of one process, on the same options, cause no warning of too many listeners', async () => {
  const [event, request] = [uniqueName('event'), uniqueName('request')];
  const connection = {
    host: '127.0.0.1',
    port: Number(new URL(nest.url).port),
    db: Number(new URL(nest.url).pathname.slice(1)),
  };
  let handled = 0;
  const handlers = [onEvent(event, () => (handled += 1)), onRequest(request, (data) => data)];
  const servers = await Promise.all(times((n) => nest.serve(handlers, { connection, group: `g${n}` })));
  const clients = times(() => nest.client({ connection }));
  for (const { server } of servers) times(() => server.on('status', () => undefined));
  await Promise.all(clients.map((client) => firstValueFrom(client.emit(event, 1))));
  await cutConnections(nest.redis);
  const answers = await Promise.all(clients.map((client, n) => firstValueFrom(client.send<number>(request, n))));
  expect(answers).toEqual(times((n) => n));
  await until('each server has handled each event', () => handled >= MANY * MANY);
  await expectNoWarning();
});

function endable(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort() };
}
