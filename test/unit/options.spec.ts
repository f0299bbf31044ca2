import { hostname } from 'node:os';
import { afterEach, describe, expect, it } from '@jest/globals';
import { check } from '../../lib/engine/options/option-checks.js';
import { DEFAULTS } from '../../lib/engine/options/options.js';
import type { ConsumerOptions } from '../../lib/engine/options/options.js';
import {
  hostId,
  resolveConsumerOptions,
  resolveProducerOptions,
  resolveStreamKeys,
  resolveStreamerOptions,
} from '../../lib/engine/options/resolve-options.js';

const hostIdBefore = process.env['HOST_ID'];
afterEach(() => {
  if (hostIdBefore === undefined) delete process.env['HOST_ID'];
  else process.env['HOST_ID'] = hostIdBefore;
});

describe('defaults', () => {
  it('are those of the reference', () => {
    process.env['HOST_ID'] = 'host';
    expect(resolveConsumerOptions({ mode: 'resumable' })).toMatchObject({
      autoStreamReset: 'latest',
      autoCommit: 'delayed',
      autoCommitDelay: 5_000,
      autoCommitInterval: 1_000,
      batchSize: 100,
      prefetch: 200,
      group: 'host:r',
      consumer: 'host:r',
      mkStream: false,
    });
    expect(resolveConsumerOptions({ mode: 'load-balanced' })).toMatchObject({
      autoClaimInterval: 30_000,
      autoClaimIdle: 60_000,
      batchSize: 10,
      prefetch: 20,
      group: 'host:s',
      consumer: expect.stringMatching(new RegExp(`^host:${process.pid}:`)),
    });
    expect(resolveConsumerOptions({ mode: 'real-time' })).toMatchObject({ group: undefined, batchSize: 100 });
    expect(resolveStreamerOptions({})).toEqual(DEFAULTS.streamer);
    expect(resolveProducerOptions({})).toMatchObject(DEFAULTS.producer);
  });

  it('give every load-balanced consumer a name of its own, and a resumable one the name of its group', () => {
    const names = Array.from({ length: 100 }, () => resolveConsumerOptions({ mode: 'load-balanced' }).consumer);
    expect(new Set(names).size).toBe(100);
    expect(resolveConsumerOptions({ mode: 'resumable', group: 'g' }).consumer).toBe('g');
  });

  it('apply where an option is undefined', () => {
    const options = { mode: 'resumable', group: undefined, batchSize: undefined, autoCommitDelay: undefined };
    expect(resolveConsumerOptions(options as ConsumerOptions)).toMatchObject({
      batchSize: 100,
      autoCommitDelay: 5_000,
    });
  });

  it('set the prefetch to twice the batch size', () => {
    expect(resolveConsumerOptions({ mode: 'real-time', batchSize: 7 }).prefetch).toBe(14);
    expect(resolveConsumerOptions({ mode: 'real-time', batchSize: 7, prefetch: 3 }).prefetch).toBe(3);
  });

  it('are frozen', () => {
    expect(Object.isFrozen(DEFAULTS) && Object.values(DEFAULTS).every((part) => Object.isFrozen(part))).toBe(true);
  });

  it('take the host id from HOST_ID first', () => {
    process.env['HOST_ID'] = 'mine';
    expect(hostId()).toBe('mine');
    delete process.env['HOST_ID'];
    expect([hostname(), expect.stringMatching(/^[0-9a-f]{64}$/)]).toContainEqual(hostId());
  });
});

describe('stream keys', () => {
  it('may be one or several, and each is kept once', () => {
    expect(resolveStreamKeys('a')).toEqual(['a']);
    expect(resolveStreamKeys(['a', 'b', 'a'])).toEqual(['a', 'b']);
  });
});

describe('option checks', () => {
  const good: Array<[keyof typeof check, unknown[]]> = [
    ['string', ['']],
    ['name', ['a']],
    ['boolean', [false]],
    ['integer', [3, 3, 3]],
    ['integer', [Number.MAX_SAFE_INTEGER, 0]],
    ['number', [0.5, 0, 1]],
    ['oneOf', ['a', ['a', 'b']]],
    ['date', [new Date(0)]],
    ['date', [new Date(2 ** 48 - 1)]],
  ];
  it.each(good)('%s accepts %j', (rule, [value, ...bounds]) => {
    expect(() => (check[rule] as (...args: unknown[]) => void)('option', value, ...bounds)).not.toThrow();
  });

  const bad: Array<[keyof typeof check, unknown[], string]> = [
    ['string', [7], 'option must be a string; got 7'],
    ['name', [''], 'option must be a non-empty string; got ""'],
    ['boolean', ['yes'], 'option must be true or false; got "yes"'],
    ['integer', [-1, 0], 'option must be a whole number of at least 0; got -1'],
    ['integer', [Number.NaN, 0], 'option must be a whole number of at least 0; got NaN'],
    ['integer', [11, 1, 10], 'option must be a whole number from 1 to 10; got 11'],
    ['integer', ['5', 1], 'option must be a whole number of at least 1; got "5"'],
    ['number', [Number.NaN, 0, 1], 'option must be a number from 0 to 1; got NaN'],
    ['oneOf', ['c', ['a', 'b']], `option must be one of 'a', 'b'; got "c"`],
    ['oneOf', [undefined, ['a']], `option must be one of 'a'; got undefined`],
    ['date', [new Date(Number.NaN)], 'option must be a valid Date from 1970 to 10889; got an invalid Date'],
    ['date', [5], 'option must be a valid Date from 1970 to 10889; got 5'],
  ];
  it.each(bad)('%s refuses %j', (rule, [value, ...bounds], message) => {
    expect(() => (check[rule] as (...args: unknown[]) => void)('option', value, ...bounds)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_OPTION', option: 'option', value, message }),
    );
  });
});
