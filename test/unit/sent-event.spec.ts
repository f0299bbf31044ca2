import { AsyncLocalStorage } from 'node:async_hooks';
import { setImmediate as turn } from 'node:timers/promises';

import { afterEach, describe, expect, it, jest } from '@jest/globals';
import { config, finalize, firstValueFrom, lastValueFrom, map, timeout } from 'rxjs';

import { Receipt } from '../../lib/engine/messages/receipt.js';
import { ConnectionError } from '../../lib/errors.js';
import { SentEvent } from '../../lib/nest/client/sent-event.js';

const receipt = new Receipt('orders', 0, '1-1');
const lost = new ConnectionError('lost');

describe('sent event', () => {
  const unobserved: Error[] = [];
  const report = (error: Error): void => void unobserved.push(error);

  afterEach(() => {
    unobserved.length = 0;
    config.onUnhandledError = null;
  });

  it('emits its receipt to each subscriber once, and to a late one as well', async () => {
    const event = new SentEvent();
    const early = [firstValueFrom(event), lastValueFrom(event), lastValueFrom(event.pipe(map(({ id }) => id)))];
    event.accepted(receipt);
    expect(await Promise.all(early)).toEqual([receipt, receipt, '1-1']);
    expect(await lastValueFrom(event)).toBe(receipt);
  });

  it('errors for each subscriber, and for a late one as well, and is reported to no one else', async () => {
    const event = new SentEvent();
    const early = [firstValueFrom(event), firstValueFrom(event)];
    event.failed(lost, report);
    for (const outcome of early) await expect(outcome).rejects.toBe(lost);
    await expect(firstValueFrom(event)).rejects.toBe(lost);
    await turn();
    expect(unobserved).toEqual([]);
  });

  it('that fails without a subscriber is reported, unless one comes in the same turn', async () => {
    new SentEvent().failed(lost, report);
    const event = new SentEvent();
    event.failed(lost, report);
    await expect(firstValueFrom(event)).rejects.toBe(lost);
    await turn();
    expect(unobserved).toEqual([lost]);
  });

  it('emits in the async context of each subscriber', async () => {
    const store = new AsyncLocalStorage<string>();
    const seen: Array<string | undefined> = [];
    const event = new SentEvent();
    const note = (): void => void seen.push(store.getStore());
    store.run('a', () => event.subscribe({ next: note, complete: note }));
    store.run('b', () => event.subscribe(note));
    store.run('sender', () => event.accepted(receipt));
    store.run('late', () => event.subscribe(note));
    expect(seen).toEqual(['a', 'a', 'b']);
    await turn();
    expect(seen).toEqual(['a', 'a', 'b', 'late']);
  });

  it('keeps what a teardown throws from the other subscribers and from its sender', async () => {
    // A real one would make the test fail.
    const reject = jest.spyOn(Promise, 'reject').mockReturnValue(new Promise<never>(() => undefined));
    const event = new SentEvent();
    const failing = finalize(() => {
      throw new Error('of the application');
    });
    const seen: string[] = [];
    event.pipe(failing).subscribe();
    event.subscribe(({ id }) => seen.push(id));
    event.accepted(receipt);
    event.pipe(failing).subscribe();
    await turn();
    expect(reject).toHaveBeenCalledTimes(2);
    reject.mockRestore();
    expect(seen).toEqual(['1-1']);
  });

  it('emits to a late subscriber without a timer, which a test may have replaced', async () => {
    jest.useFakeTimers();
    const event = new SentEvent();
    event.accepted(receipt);
    expect(await firstValueFrom(event)).toBe(receipt);
    jest.useRealTimers();
  });

  it('may fail with anything that was thrown', async () => {
    const event = new SentEvent();
    event.failed(undefined as never, report);
    await expect(firstValueFrom(event)).rejects.toBeUndefined();
  });

  it('does not emit while it is subscribed to', async () => {
    const event = new SentEvent();
    event.accepted(receipt);
    const seen: Receipt[] = [];
    event.subscribe((value) => seen.push(value));
    expect(seen).toEqual([]);
    await turn();
    expect(seen).toEqual([receipt]);
  });

  it('emits nothing to one that has unsubscribed, and to the others even if one throws', async () => {
    const thrown: unknown[] = [];
    config.onUnhandledError = (error) => thrown.push(error);
    const event = new SentEvent();
    const seen: string[] = [];
    event.subscribe(() => {
      throw new Error('of the application');
    });
    event.subscribe(() => seen.push('gone')).unsubscribe();
    event.subscribe(() => seen.push('there'));
    event.accepted(receipt);
    expect(seen).toEqual(['there']);
    await expect(firstValueFrom(new SentEvent().pipe(timeout(5)))).rejects.toThrow('Timeout');
    expect(thrown).toEqual([new Error('of the application')]);
  });
});
