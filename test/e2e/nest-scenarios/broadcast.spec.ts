import { expect, it } from '@jest/globals';
import { NEVER, concat, lastValueFrom, of, scan, take, toArray } from 'rxjs';

import { onEvent, onRequest } from '../../support/controllers.js';
import { useNest } from '../../support/nest.js';
import { uniqueName } from '../../support/redis.js';
import { until } from '../../support/until.js';

const nest = useNest();

it('an event reaches one instance of each group', async () => {
  const pattern = uniqueName('broadcast');
  const handled: string[] = [];
  for (const group of ['orders', 'orders', 'billing', 'billing']) {
    await nest.serve(
      onEvent(pattern, () => void handled.push(group)),
      { group },
    );
  }
  for (let sent = 0; sent < 10; sent += 1) await nest.emit(pattern, sent);
  await until('each group has all', () => handled.length >= 20);
  for (const group of ['orders', 'billing']) await nest.untilSettled(pattern, group);

  expect(handled.filter((group) => group === 'orders')).toHaveLength(10);
  expect(handled.filter((group) => group === 'billing')).toHaveLength(10);
});

it('an event reaches every instance in real-time mode', async () => {
  const pattern = uniqueName('broadcast');
  const handled: number[] = [];
  for (const instance of [1, 2, 3]) {
    await nest.serve(
      onEvent(pattern, () => void handled.push(instance)),
      { mode: 'real-time' },
    );
  }
  await nest.emit(pattern, 'x');

  await until('all have it', () => handled.length === 3);
  expect(handled.sort((a, b) => a - b)).toEqual([1, 2, 3]);
});

it('a request is answered once for each group that serves its pattern, while none of them completes', async () => {
  const pattern = uniqueName('scatter');
  for (const group of ['one', 'other']) {
    await nest.serve(
      onRequest(pattern, () => concat(of(1), NEVER)),
      { group, shutdownTimeout: 100 },
    );
  }
  const total = nest
    .client()
    .send<number>(pattern, {})
    .pipe(
      scan((a, b) => a + b),
      take(2),
    );

  expect(await lastValueFrom(total)).toBe(2);
});

it('a request is answered by one instance of a group', async () => {
  const pattern = uniqueName('single');
  let handled = 0;
  for (let instance = 0; instance < 3; instance += 1) {
    await nest.serve(onRequest(pattern, () => (handled += 1)));
  }
  const client = nest.client();
  for (let sent = 1; sent <= 10; sent += 1) {
    expect(await lastValueFrom(client.send(pattern, {}).pipe(toArray()))).toEqual([sent]);
  }
});
