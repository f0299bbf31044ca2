import { describe, expect, it } from '@jest/globals';
import { ConnectionError, RedisStreamsError } from '../../lib/errors.js';
import { classifyRedisError, isTransient, replyWord, toPublicError } from '../../lib/redis/commands/redis-error.js';
import type { RedisErrorKind } from '../../lib/redis/commands/redis-error.js';
import { ReplyError } from '../../lib/redis/wire/resp-reader.js';

const reply = (message: string): Error => new ReplyError(message);

const cases: Array<[string, RedisErrorKind]> = [
  ['LOADING Redis is loading the dataset in memory', 'retryable'],
  ['BUSY Redis is busy running a script', 'retryable'],
  ['MASTERDOWN Link with MASTER is down', 'retryable'],
  ['CLUSTERDOWN The cluster is down', 'retryable'],
  ['TRYAGAIN Multiple keys request during rehashing of slot', 'retryable'],
  ['NOREPLICAS Not enough good replicas to write.', 'retryable'],
  ['MISCONF Redis is configured to save RDB snapshots', 'retryable'],
  ['ERR max number of clients reached', 'retryable'],
  ["READONLY You can't write against a read only replica.", 'failover'],
  ['UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)', 'failover'],
  ['UNBLOCKED client unblocked via CLIENT UNBLOCK', 'interrupted'],
  ['UNBLOCKED the stream key no longer exists', 'stream-gone'],
  ['ERR no such key', 'stream-gone'],
  ['ERR The XGROUP subcommand requires the key to exist.', 'stream-gone'],
  ["NOGROUP No such key 'a' or consumer group 'g'", 'group-missing'],
  ['BUSYGROUP Consumer Group name already exists', 'group-exists'],
  ['WRONGTYPE Operation against a key holding the wrong kind of value', 'wrong-type'],
  ['NOAUTH Authentication required.', 'permission'],
  ['WRONGPASS invalid username-password pair', 'permission'],
  ["NOPERM this user has no permissions to run the 'xadd' command", 'permission'],
  ["@user_script: 1: The user executing the script can't run this command or subcommand", 'permission'],
  ["ERR The user executing the script can't run this command or subcommand", 'permission'],
  ["ERR ACL failure in script: User app has no permissions to run the 'hget' command", 'permission'],
  ["ERR unknown command 'XAUTOCLAIM'", 'unsupported'],
  ['ERR syntax error', 'unsupported'],
  ["ERR Protocol error: expected '$', got 'x'", 'unreadable'],
  ['ERR something else', 'refused'],
  ["ERR Error running script (call to f_1): @user_script:5: -NOGROUP No such key 'a'", 'group-missing'],
  ['ERR Error running script (call to f_1): @user_script:5: WRONGTYPE Operation against a key', 'wrong-type'],
  ['ERR Error running script (call to f_1): @user_script:1: @user_script: 1: -OOM command not allowed', 'no-memory'],
  ["@user_script: 1: -READONLY You can't write against a read only replica.", 'failover'],
];

describe('what an error of Redis means', () => {
  it.each(cases)('%s is %s', (message, kind) => {
    expect(classifyRedisError(reply(message))).toBe(kind);
  });

  it('is a lost connection when it is no reply', () => {
    for (const error of [new Error('Connection is closed.'), new ConnectionError('lost'), undefined, 'text']) {
      expect(classifyRedisError(error)).toBe('connection');
    }
    expect(replyWord(new Error('LOADING is only a text'))).toBeUndefined();
  });

  it('is transient when doing the same later can help', () => {
    expect(isTransient('connection') && isTransient('failover') && isTransient('retryable')).toBe(true);
    expect(isTransient('refused') || isTransient('permission') || isTransient('wrong-type')).toBe(false);
  });

  it.each([
    ['WRONGTYPE x', 'ERR_WRONG_TYPE', false],
    ['NOPERM x', 'ERR_PERMISSION', false],
    ['OOM command not allowed', 'ERR_SERVER_REPLY', true],
    ['LOADING x', 'ERR_SERVER_REPLY', true],
    ['ERR odd', 'ERR_SERVER_REPLY', false],
  ])('%s becomes %s', (message, code, retryable) => {
    const cause = reply(message);
    expect(toPublicError(cause, 'orders', 'reading')).toMatchObject({
      code,
      retryable,
      cause,
      message: expect.stringContaining('orders'),
    });
  });

  it('stays what it is when it is an error of ours', () => {
    const error = new RedisStreamsError('ERR_X', 'x');
    expect(toPublicError(error, 'orders', 'reading')).toBe(error);
  });
});
