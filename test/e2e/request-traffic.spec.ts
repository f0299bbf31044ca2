import { expect, it } from '@jest/globals';
import { lastValueFrom, map, NEVER, timer, toArray } from 'rxjs';

import { withResolvers } from '../../lib/shared/deferred.js';
import type { ClientRedisStreams } from '../../lib/index.js';
import { onRequest } from '../support/controllers.js';
import { GROUP, useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { RedisServer } from '../support/redis-server.js';
import { until } from '../support/until.js';

/** The short form; `npm run test:requests` has 100,000. */
const REQUESTS = Number(process.env['REQUESTS'] ?? 20_000);

const nest = useNest();

function ask<T = unknown>(client: ClientRedisStreams, pattern: string, data: unknown): Promise<T[]> {
  return lastValueFrom(client.send<T>(pattern, data).pipe(toArray()));
}

/** Runs `task` for 0 … count-1, at most `width` at once. */
async function spread(count: number, width: number, task: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) {
      const index = next;
      next += 1;
      await task(index);
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** The reply streams that exist, with their length and time to live. */
async function replyStreams(): Promise<Array<{ length: number; ttl: number }>> {
  const keys = await nest.redis.keys('reply:*');
  return Promise.all(
    keys.map(async (key) => ({ length: await nest.redis.xlen(key), ttl: await nest.redis.pttl(key) })),
  );
}

it('with many clients and many servers every answer reaches the client that sent the request', async () => {
  const pattern = uniqueName('many');
  const servers = [0, 0, 0];
  for (const index of servers.keys()) {
    await nest.serve(
      onRequest(pattern, (question: string) => {
        servers[index] = (servers[index] as number) + 1;
        return timer(Math.random() * 5).pipe(map(() => `answer to ${question}`));
      }),
    );
  }
  const clients = Array.from({ length: 4 }, () => nest.client());
  await Promise.all(
    clients.map((client, number) =>
      spread(100, 20, async (index) => {
        const question = `${number}/${index}`;
        expect(await ask(client, pattern, question)).toEqual([`answer to ${question}`]);
      }),
    ),
  );

  expect(servers.every((count) => count > 0)).toBe(true);
  expect(servers.reduce((a, b) => a + b, 0)).toBe(400);
});

it(`after ${REQUESTS} requests no open request, no long reply stream and no pending entry remain`, async () => {
  const pattern = uniqueName('leak');
  await nest.serve(
    onRequest(pattern, (n: number) => n),
    { batchSize: 200, prefetch: 400, concurrency: 200 },
  );
  const client = nest.client();
  await spread(REQUESTS, 400, async (index) => {
    expect(await ask(client, pattern, index)).toEqual([index]);
  });

  expect(client.openRequests).toBe(0);
  await nest.untilSettled(pattern);
  const [replies, ...others] = await replyStreams();
  expect(others).toEqual([]);
  // Trimmed after every 1,000 replies, by whole nodes of the server's tree.
  expect(replies?.length).toBeLessThan(2_000);
  expect(replies?.ttl).toBeGreaterThan(0);
}, 180_000);

it('the reply stream has a time to live, and is emptied when its client closes', async () => {
  const pattern = uniqueName('expiring');
  await nest.serve(onRequest(pattern, (n: number) => n));
  const client = nest.client();
  await ask(client, pattern, 1);

  await until('it expires', async () => ((await replyStreams())[0]?.ttl ?? -1) > 0);
  expect(await replyStreams()).toMatchObject([{ length: 1 }]);
  await client.close();
  expect((await replyStreams()).every(({ length }) => length === 0)).toBe(true);
});

it('unsubscribing closes the request, and late answers are dropped', async () => {
  const pattern = uniqueName('unsubscribed');
  const gate = withResolvers<string>();
  let asked = 0;
  await nest.serve(
    onRequest(pattern, (question: string) => {
      asked += 1;
      return question === 'first' ? gate.promise : 'second';
    }),
  );
  const client = nest.client();
  const seen: unknown[] = [];
  const subscription = client.send(pattern, 'first').subscribe((value) => seen.push(value));
  await until('its handler runs', () => asked === 1);
  expect(client.openRequests).toBe(1);
  subscription.unsubscribe();
  expect(client.openRequests).toBe(0);
  gate.resolve('too late');

  await nest.untilSettled(pattern);
  expect(await ask(client, pattern, 'next')).toEqual(['second']);
  expect(seen).toEqual([]);
});

it('a request that is unsubscribed before it was sent is not sent', async () => {
  const pattern = uniqueName('early');
  const encoding = withResolvers<string>();
  let encodings = 0;
  await nest.serve(onRequest(pattern, () => 1));
  const client = nest.client({
    serializer: {
      serialize: () => {
        encodings += 1;
        return encodings === 1 ? encoding.promise : '1';
      },
    } as never,
  });
  const subscription = client.send(pattern, 1).subscribe();
  await until('it is being serialized', () => encodings === 1);
  subscription.unsubscribe();
  encoding.resolve('1');

  await ask(client, pattern, 2);
  expect(await nest.redis.xlen(pattern)).toBe(1);
});

it('closing the client fails open requests at once', async () => {
  const pattern = uniqueName('closing');
  let asked = 0;
  const { server } = await nest.serve(
    onRequest(pattern, () => {
      asked += 1;
      return NEVER;
    }),
    { shutdownTimeout: 50 },
  );
  server.on('error', () => undefined);
  const client = nest.client();
  const failure = ask(client, pattern, 1).catch((error: unknown) => error);
  await until('its handler runs', () => asked === 1);
  await client.close();

  expect(await failure).toMatchObject({ code: 'ERR_CLOSED' });
  expect(client.openRequests).toBe(0);
});

it('requests succeed again after Redis was killed and restarted while requests were open', async () => {
  const redis = await RedisServer.start();
  nest.closeLater({ close: () => redis.stop() });
  const pattern = uniqueName('restarted');
  await nest.serve(
    onRequest(pattern, (n: number) => n + 1),
    { connection: redis.url, group: GROUP },
  );
  const client = nest.client({ connection: redis.url, requestTimeout: 20_000 });
  let answered = 0;
  const asking = spread(600, 20, async (index) => {
    expect(await ask(client, pattern, index)).toEqual([index + 1]);
    answered += 1;
    // Slow enough for the restart to happen while requests are open.
    await new Promise((resolve) => setTimeout(resolve, 5));
  });

  await until('they are flowing', () => answered > 50);
  await redis.restart();
  const before = answered;
  expect(before).toBeLessThan(600);
  await asking;
  expect(client.openRequests).toBe(0);
});
