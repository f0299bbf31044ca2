import { expect, it } from '@jest/globals';

import type { RedisStreamsContext, StreamManager } from '../../lib/index.js';
import { onEvent } from '../support/controllers.js';
import { useNest } from '../support/nest.js';
import { uniqueName } from '../support/redis.js';
import { until } from '../support/until.js';

const nest = useNest();

/** Claims often, so that redriven messages are handled soon. */
const EAGER = { autoClaimInterval: 50, autoClaimIdle: 500 } as const;

interface Handled {
  readonly data: unknown;
  readonly id: string;
  readonly deliveryCount: number;
}

/** A handler that fails, and so makes dead letters, until it is repaired. */
class BrokenService {
  readonly pattern = uniqueName('redriven');
  readonly handled: Handled[] = [];
  isMended = false;

  readonly handle = (data: unknown, context: RedisStreamsContext): void => {
    if (!this.isMended) throw new Error('broken');
    this.handled.push({ data, id: context.getMessageId(), deliveryCount: context.getDeliveryCount() });
  };

  get dead(): string {
    return `${this.pattern}.dead`;
  }

  async makeDeadLetters(...messages: unknown[]): Promise<void> {
    for (const message of messages) await nest.emit(this.pattern, message);
    await until('all are dead letters', async () => (await nest.redis.xlen(this.dead)) === messages.length);
    await nest.untilSettled(this.pattern);
  }
}

async function manager(): Promise<StreamManager> {
  return nest.client().unwrap().createManager();
}

/** One order: a dead letter of the tested group, and already handled by another group, which must not get it again. */
async function deadLetterOfOneGroup(): Promise<{ service: BrokenService; others: unknown[] }> {
  const service = new BrokenService();
  const others: unknown[] = [];
  await nest.serve(onEvent(service.pattern, service.handle), { ...EAGER, retry: false });
  const note = (data: unknown): void => void others.push(data);
  await nest.serve(onEvent(service.pattern, note), { ...EAGER, group: 'others' });
  await service.makeDeadLetters('order');
  return { service, others };
}

it('a redriven message is handled again with its own id by its own group, and by no other', async () => {
  const { service, others } = await deadLetterOfOneGroup();
  const [original] = await nest.entries(service.pattern);

  service.isMended = true;
  expect(await (await manager()).redrive(service.dead)).toEqual({ redriven: 1, skipped: 0 });

  await until('it is handled', () => service.handled.length === 1);
  expect(service.handled).toEqual([{ data: 'order', id: original?.id, deliveryCount: 1 }]);
  await nest.untilSettled(service.pattern);
  expect(await nest.redis.xlen(service.dead)).toBe(0);
  expect(others).toEqual(['order']);
});

it('a message that is redriven in the moment it becomes a dead letter is not lost by its own acknowledgement', async () => {
  const service = new BrokenService();
  const admin = await manager();
  const results: number[] = [];
  await nest.serve(onEvent(service.pattern, service.handle), {
    ...EAGER,
    retry: false,
    autoCommitInterval: 5_000,
    onDeadLetter: async () => {
      service.isMended = true;
      while ((results.at(-1) ?? 0) === 0) results.push((await admin.redrive(service.dead)).redriven);
    },
  });
  await nest.emit(service.pattern, 'order');

  await until('it is handled', () => service.handled.length === 1);
  expect(results.at(-1)).toBe(1);
});

it('a message whose entry was trimmed is appended again, and other groups skip it', async () => {
  const { service, others } = await deadLetterOfOneGroup();
  await until('the other group has handled it', () => others.length === 1);
  await nest.redis.xtrim(service.pattern, 'MAXLEN', 0);

  service.isMended = true;
  await (await manager()).redrive(service.dead);

  await until('it is handled', () => service.handled.length === 1);
  expect(service.handled[0]?.data).toBe('order');
  await nest.untilSettled(service.pattern, 'others');
  expect(others).toEqual(['order']);
});

it('filter, limit and dryRun select the dead letters that are redriven', async () => {
  const service = new BrokenService();
  await nest.serve(onEvent(service.pattern, service.handle), { ...EAGER, retry: false });
  await service.makeDeadLetters('a', 'b', 'c', 'd');
  service.isMended = true;
  const admin = await manager();

  const filter = (message: { json(): unknown }): boolean => message.json() !== 'b';
  expect(await admin.redrive(service.dead, { dryRun: true, filter })).toEqual({ redriven: 3, skipped: 1 });
  expect(service.handled).toEqual([]);
  expect(await admin.redrive(service.dead, { filter, limit: 2 })).toEqual({ redriven: 2, skipped: 1 });
  await until('two are handled', () => service.handled.length === 2);
  expect(new Set(service.handled.map(({ data }) => data))).toEqual(new Set(['a', 'c']));
  expect(await nest.redis.xlen(service.dead)).toBe(2);

  await expect(admin.redrive(service.dead, { limit: 0 })).rejects.toMatchObject({ code: 'ERR_INVALID_OPTION' });
});

it('ids name the dead letters that are redriven; those that are not there are skipped, and the others are not read', async () => {
  const service = new BrokenService();
  await nest.serve(onEvent(service.pattern, service.handle), { ...EAGER, retry: false });
  await service.makeDeadLetters('a', 'b', 'c');
  service.isMended = true;
  const admin = await manager();
  const [first, , last] = (await nest.entries(service.dead)).map(({ id }) => id) as [string, string, string];

  const seen: unknown[] = [];
  const filter = (message: { json(): unknown }): boolean => seen.push(message.json()) > 0;
  const ids = [last, '1-0', first, last];
  expect(await admin.redrive(service.dead, { ids, filter, dryRun: true })).toEqual({ redriven: 2, skipped: 1 });
  expect(seen).toEqual(['c', 'a']);
  expect(await admin.redrive(service.dead, { ids })).toEqual({ redriven: 2, skipped: 1 });
  await until('two are handled', () => service.handled.length === 2);
  expect(await nest.redis.xlen(service.dead)).toBe(1);
  expect(await admin.redrive(service.dead, { ids: [] })).toEqual({ redriven: 0, skipped: 0 });

  for (const wrong of ['1-0', ['1'], ['-'], [7]])
    await expect(admin.redrive(service.dead, { ids: wrong as string[] })).rejects.toMatchObject({ option: 'ids' });
});

it('dead letters under the earlier default name, `<stream>:dead`, are redriven when that name is given', async () => {
  const service = new BrokenService();
  const former = `${service.pattern}:dead`;
  const deadLetter = { stream: former };
  await nest.serve(onEvent(service.pattern, service.handle), { ...EAGER, retry: false, deadLetter });
  await nest.emit(service.pattern, 'order');
  await until('it is a dead letter', async () => (await nest.redis.xlen(former)) === 1);
  await nest.untilSettled(service.pattern);

  service.isMended = true;
  expect(await (await manager()).redrive(former)).toEqual({ redriven: 1, skipped: 0 });
  await until('it is handled', () => service.handled.length === 1);
});
