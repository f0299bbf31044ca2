import { hostname } from 'node:os';
import { afterEach, describe, expect, it } from '@jest/globals';
import { TRANSPORT_OPTIONS } from '../../lib/nest/redis-streams.options.js';
import { check, optionNames } from '../../lib/shared/option-checks.js';
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
    expect(resolveStreamerOptions({})).toEqual({ ...DEFAULTS.streamer, isPolling: false });
    expect(resolveStreamerOptions({ blockTimeout: false })).toMatchObject({ blockTimeout: 10_000, isPolling: true });
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
    ['time', [2 ** 31 - 1, 0]],
    ['function', [() => 1]],
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
    ['time', [2 ** 31, 0], 'option must be a whole number of milliseconds from 0 to 2147483647; got 2147483648'],
    ['time', [0.5, 0], 'option must be a whole number of milliseconds from 0 to 2147483647; got 0.5'],
    ['function', [7], 'option must be a function; got 7'],
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

describe('names of options', () => {
  const names = optionNames<{ concurrency?: 1; ordered?: 1; keyPrefix?: 1; autoClaimIdle?: 1; autoClaimInterval?: 1 }>({
    concurrency: true,
    ordered: true,
    keyPrefix: true,
    autoClaimIdle: true,
    autoClaimInterval: true,
  });

  it.each([
    ['concurency', 'concurrency'],
    ['orderd', 'ordered'],
    ['Ordered', 'ordered'],
    ['keyprefix', 'keyPrefix'],
    ['prefix', 'keyPrefix'],
    ['autoClaimIdel', 'autoClaimIdle'],
    ['autoClaimIntervall', 'autoClaimInterval'],
  ])('%s is refused with the nearest right name', (name, right) => {
    expect(() => check.options('', { [name]: 1 }, names)).toThrow(
      expect.objectContaining({
        code: 'ERR_INVALID_OPTION',
        option: name,
        message: `${name} is not an option here; did you mean '${right}'?`,
      }),
    );
  });

  it('that resemble none are refused with a list of all, and without their value', () => {
    expect(() => check.options('retry', { password: 'secret' }, names)).toThrow(
      expect.objectContaining({
        option: 'retry.password',
        value: undefined,
        message:
          'retry.password is not an option here; ' +
          'the options are autoClaimIdle, autoClaimInterval, concurrency, keyPrefix, ordered',
      }),
    );
  });

  it('without a value are the same as absent', () => {
    expect(() => check.options('', { concurency: undefined, ordered: true }, names)).not.toThrow();
  });

  it.each([
    ['redis://:secret@host', 'a string'],
    [null, 'null'],
    [[], 'an array'],
    [7, 'a number'],
  ])('are in an object: %j is refused', (options, kind) => {
    expect(() => check.options('', options, names)).toThrow(`options must be an object; got ${kind}`);
  });

  it('of a client or server, which a subclass passes on to its streamer, resemble no option of a streamer', () => {
    const names = [...TRANSPORT_OPTIONS].filter((name) => !(name in DEFAULTS.streamer));
    const options = Object.fromEntries(names.map((name) => [name, 1]));
    expect(() => resolveStreamerOptions({ ...options, logger: undefined })).not.toThrow();
    expect(() => resolveStreamerOptions({ ...options, timout: 5 } as object)).toThrow("did you mean 'timeout'?");
  });
});
