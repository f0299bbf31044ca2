import { expect, it } from '@jest/globals';
import { firstValueFrom, lastValueFrom, toArray } from 'rxjs';

import { ownConnectionLines } from '../support/connections.js';
import { onEvent, onRequest } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { numbers } from '../support/streams.js';
import { until } from '../support/until.js';

const nest = useNest();
const POLLING = { blockTimeout: false } as const;

it('without blocking reads events, requests and retries are handled; a request does not wait for a seldom look', async () => {
  const [events, requests] = [uniqueName('events'), uniqueName('requests')];
  const seen: string[] = [];
  await nest.serve(
    [
      onEvent(events, (n: string) => {
        seen.push(n);
        if (n === '2' && seen.filter((each) => each === n).length === 1) throw new Error('once');
      }),
      onRequest(requests, (n: number) => n + 1),
    ],
    { ...POLLING, retry: { delay: 50 } },
  );
  const client = nest.client(POLLING);
  for (const n of numbers(0, 4)) await firstValueFrom(client.emit(events, n));
  await until('one was handled again', () => seen.length === 6);
  expect([...seen].sort()).toEqual(['0', '1', '2', '2', '3', '4']);
  await nest.untilSettled(events);
  for (const n of [1, 2, 3]) expect(await lastValueFrom(client.send(requests, n).pipe(toArray()))).toEqual([n + 1]);
  const connections = await ownConnectionLines(nest.redis);
  expect(connections).not.toEqual([]);
  expect(connections.filter((line) => / flags=\w*b/.test(line))).toEqual([]);
});
