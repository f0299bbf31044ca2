import { describe, expect, it } from '@jest/globals';
import { ReplyError as IoredisReplyError } from 'ioredis';

import { failureOf, publicCause } from '../../lib/redis/connection/ioredis-errors.js';
import { ConnectionLost, ReplyError } from '../../lib/redis/wire/resp-reader.js';

const AbortError = class V extends (Object.getPrototypeOf(IoredisReplyError) as typeof Error) {};
const command = { name: 'auth', args: ['app', 'secret'] };

describe('an error of ioredis', () => {
  it.each([
    ['of its own class', Object.assign(new IoredisReplyError('NOGROUP No such key'), { command })],
    ['of another copy of ioredis', Object.assign(new Error('NOGROUP No such key'), { name: 'ReplyError', command })],
    ['of another copy in a minified bundle', Object.assign(new Error('NOGROUP No such key'), { name: 'KB', command })],
  ])('that is a reply %s is a reply here, without the command', (_, error) => {
    for (const known of [failureOf(error), publicCause(error)]) {
      expect(known).toBeInstanceOf(ReplyError);
      expect(known).toMatchObject({ message: 'NOGROUP No such key' });
      expect(known).not.toHaveProperty('command');
    }
  });

  it.each(
    [
      new Error('Connection is closed.'),
      new Error('Command timed out'),
      new Error("Stream isn't writeable and enableOfflineQueue options is false"),
      new Error("Socket timeout. Expecting data, but didn't receive any in 4000ms."),
      Object.assign(new Error('connect ECONNREFUSED 127.0.0.1:1'), { code: 'ECONNREFUSED', syscall: 'connect' }),
      Object.assign(new AbortError('Command aborted due to connection close'), { command }),
    ].map((error) => [error.message, error] as const),
  )('that tells of a lost connection is one here: %s', (_, error) => {
    expect(failureOf(error)).toBeInstanceOf(ConnectionLost);
  });

  it('that is neither stays what it is, because a mistake must not look like an outage', () => {
    const errors = [new TypeError('command.setReplyContext is not a function'), new Error('a plug-in failed')];
    for (const error of errors) expect(failureOf(error)).toBe(error);
  });
});
