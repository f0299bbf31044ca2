import { inspect } from 'node:util';
import { describe, expect, it } from '@jest/globals';
import { BadRequestException, HttpException } from '@nestjs/common';
import { RpcException } from '@nestjs/microservices';
import { TimeoutError } from 'rxjs';

import { errorText, errorTextWithStack, withoutSecrets } from '../../lib/shared/error-text.js';

const SECRET = 'S3CRET';
const caught = (act: () => unknown): unknown => {
  try {
    return act();
  } catch (error) {
    return error;
  }
};

describe('a cause without secrets', () => {
  it.each<[what: string, thrown: unknown]>([
    ['the input of an invalid URL', caught(() => new URL(`redis://:${SECRET}@[`))],
    ['a URL in a message', new Error(`cannot reach redis://user:${SECRET}@host:6379/0`)],
    ['a URL whose password has an @', new Error(`cannot reach redis://user:a@${SECRET}@host`)],
    ['the command of a reply', Object.assign(new Error('WRONGPASS'), { command: { args: [SECRET] } })],
    ['a property', Object.assign(new Error('vault'), { config: { headers: { authorization: SECRET } } })],
    ['a cause', new Error('outer', { cause: new Error(`redis://:${SECRET}@host`) })],
    ['a cause that is no error', new Error('outer', { cause: { password: SECRET } })],
    [
      'a member of several errors',
      new AggregateError([Object.assign(new Error('inner'), { password: SECRET })], 'all'),
    ],
    ['a thrown object', { password: SECRET }],
    ['a thrown text', `redis://:${SECRET}@host`],
  ])('does not have %s', (_, thrown) => {
    const shown = inspect(withoutSecrets(thrown), { depth: 9, showHidden: true });
    expect(inspect(thrown, { depth: 9, showHidden: true })).toContain(SECRET);
    expect(shown).not.toContain(SECRET);
  });

  it('keeps name, message, code and stack of an error', () => {
    const thrown = Object.assign(new RangeError('out of range'), { code: 'ERR_X', config: {} });
    expect(withoutSecrets(thrown)).toMatchObject({ name: 'RangeError', message: 'out of range', code: 'ERR_X' });
    expect((withoutSecrets(thrown) as Error).stack).toBe(thrown.stack);
    expect(errorText(withoutSecrets(thrown))).toBe('out of range');
  });

  it('is the error itself where it has none', () => {
    const refused = Object.assign(new Error('connect ECONNREFUSED ::1:6379'), {
      code: 'ECONNREFUSED',
      errno: -111,
      syscall: 'connect',
      address: '::1',
      port: 6379,
    });
    const several = new AggregateError([refused, refused]);
    for (const harmless of [refused, several, new Error('x', { cause: refused }), AbortSignal.abort().reason]) {
      expect(withoutSecrets(harmless)).toBe(harmless);
    }
  });
});

describe('the text of an error', () => {
  const refused = (address: string): Error => new Error(`connect ECONNREFUSED ${address}`);
  /** As Node.js makes it for a host with two addresses: without a message. */
  const ofTwoAddresses = (): AggregateError => new AggregateError([refused('::1:6379'), refused('127.0.0.1:6379')]);

  it('names each cause of an AggregateError without a message, also in a copy without secrets', () => {
    const expected = 'connect ECONNREFUSED ::1:6379; connect ECONNREFUSED 127.0.0.1:6379';
    expect(errorText(ofTwoAddresses())).toBe(expected);
    const withSecret = Object.assign(ofTwoAddresses(), { input: 'redis://:secret@h' });
    expect(errorText(withoutSecrets(withSecret))).toBe(expected);
  });

  it('names a few of many causes, and the same cause once', () => {
    const errors = Array.from({ length: 3_600 }, (_, index) => new Error(`no ${index}`));
    expect(errorText(new AggregateError(errors))).toBe('no 0; no 1; no 2; no 3; 3596 more');
    expect(errorText(new AggregateError([new Error('same'), new Error('same')]))).toBe('same');
  });

  // As of rxjs and of compilers to ES5: made by a function whose prototype is that of Error.
  it('is the message of an error that no class made, and its stack', () => {
    const thrown = new TimeoutError();
    expect(errorText(thrown)).toBe('Timeout has occurred');
    expect(errorTextWithStack(thrown)).toContain('Timeout has occurred');
    expect(errorTextWithStack(thrown)).not.toContain('{');
    expect(withoutSecrets(Object.assign(new TimeoutError(), { url: SECRET }))).toMatchObject({
      name: 'TimeoutError',
      message: 'Timeout has occurred',
    });
  });

  it.each([
    ['an Error with a code', Object.assign(new Error(''), { code: 'EPIPE' }), 'EPIPE'],
    ['an Error', new TypeError(''), 'TypeError'],
    ['an AggregateError of nothing', new AggregateError([]), 'AggregateError'],
    ['a DOMException', new DOMException('', 'AbortError'), 'AbortError'],
    ['an Error with a number as code', Object.assign(new RangeError(''), { code: 5 }), 'RangeError'],
    ['a string', '', 'an empty text'],
  ])('is never empty: %s', (_, thrown, text) => {
    expect(errorText(thrown)).toBe(text);
  });
});

describe('the text of an exception of Nest', () => {
  /** As class-validator makes it; `value` and `target` hold what was sent. */
  const ofClassValidator = [
    { property: 'name', value: 5, target: {}, constraints: { isString: 'name must be a string' } },
    {
      property: 'address',
      children: [{ property: 'city', constraints: { isString: 'city must be a string', max: 'city is too long' } }],
    },
  ];
  const ofSchema = { message: 'Validation failed', errors: [{ code: 'x', path: ['items', 0], message: 'Required' }] };

  it.each<[what: string, error: Error, text: string]>([
    ['of a validation pipe', new BadRequestException(['a must be b', 'c']), 'Bad Request Exception: a must be b; c'],
    ['with a text', new BadRequestException('odd'), 'odd'],
    ['with a text and a description', new BadRequestException('odd', 'even'), 'odd'],
    ['with an object', new HttpException({ message: 'taken' }, 409), 'taken'],
    ['with an object without a message', new HttpException({ code: 7 }, 409), 'Http Exception'],
    ['for RPC, with a text', new RpcException('no stock'), 'no stock'],
    ['for RPC, with an object', new RpcException({ code: 7, message: 'no stock' }), 'no stock'],
    [
      'for RPC, with the errors of class-validator',
      new RpcException(ofClassValidator),
      'Rpc Exception: name must be a string; address.city must be a string; address.city is too long',
    ],
    ['with the issues of a schema', new BadRequestException(ofSchema), 'Validation failed: items.0: Required'],
  ])('%s names what was wrong', (_, error, text) => {
    expect(errorText(error)).toBe(text);
    expect(errorTextWithStack(error)).toContain(text);
    expect(errorTextWithStack(error)).toContain('at ');
  });

  it('is limited, however many details there are', () => {
    const error = new BadRequestException(Array.from({ length: 10_000 }, (_, index) => `item ${index} is wrong`));
    expect(errorText(error)).toMatch(/^Bad Request Exception: item 0 is wrong; item 1 is wrong; .*…$/);
    expect(errorText(error).length).toBeLessThan(2_100);
  });

  it('is the message where a response refers to itself, or cannot be asked', () => {
    const circular: Record<string, unknown> = { message: 'around' };
    circular['errors'] = [circular];
    expect(errorText(new HttpException(circular, 400))).toBe('around');
    const broken = Object.assign(new Error('broken'), {
      getResponse: () => {
        throw new Error('no response');
      },
    });
    expect(errorText(broken)).toBe('broken');
  });
});
