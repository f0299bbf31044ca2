import { describe, expect, it } from '@jest/globals';
import { ConnectionError, InvalidOptionError, RedisStreamsError } from '../../lib/errors.js';
import { ConnectionLost, ProtocolError } from '../../lib/redis/wire/resp-reader.js';
import {
  areScriptsDenied,
  classifyRedisError,
  isTransient,
  replyWord,
  toPublicError,
} from '../../lib/redis/commands/redis-error.js';
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

  it.each([
    ['an error of this package for a connection', new ConnectionError('lost')],
    ['a connection that ended before the reply', new ConnectionLost('Redis closed the connection')],
    ['bytes that are no reply', new ProtocolError('Redis sent byte 1 in place of a digit')],
    ['an error of a socket', Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })],
    ['an error of TLS', Object.assign(new Error('alert'), { code: 'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA' })],
    ['a wait that was ended', AbortSignal.abort().reason],
  ])('is a lost connection when it is %s', (_, error) => {
    expect(classifyRedisError(error)).toBe('connection');
    expect(toPublicError(error, 'orders', 'reading from')).toMatchObject({ code: 'ERR_CONNECTION', retryable: true });
  });

  it.each([
    ['a TypeError', new TypeError("Cannot read properties of undefined (reading 'x')")],
    ['any other Error', new Error('LOADING is only a text')],
    ['an argument that Node.js refuses', Object.assign(new TypeError('bad'), { code: 'ERR_INVALID_ARG_TYPE' })],
    ['an error of this package that no repetition cures', new InvalidOptionError('db', 'must be a number', 'x')],
    ['no error at all', 'text'],
    ['undefined', undefined],
  ])('is neither a reply nor a lost connection when it is %s', (_, error) => {
    expect(classifyRedisError(error)).toBe('unexpected');
    expect(replyWord(error)).toBeUndefined();
  });

  it('of a function of the application is ERR_INTERNAL, which no caller repeats, and holds that error', () => {
    const mistake = new TypeError('not a function');
    expect(toPublicError(mistake, 'orders', 'redriving')).toMatchObject({
      code: 'ERR_INTERNAL',
      retryable: false,
      cause: mistake,
      message: "An unexpected error while redriving 'orders': not a function",
    });
  });

  it('is transient when a later attempt can succeed', () => {
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

describe('whether scripts are denied', () => {
  it.each([
    ["NOPERM this user has no permissions to run the 'evalsha' command or its subcommand", true],
    ["NOPERM User app has no permissions to run the 'eval' command", true],
    ['ERR unknown command `EVALSHA`, with args beginning with: `f1`', true],
    ["ERR unknown command 'eval'", true],
    ["ERR ACL failure in script: User app has no permissions to run the 'zadd' command script: f1", false],
    [
      "ERR Error running script (call to f_1): @user_script:5: The user executing the script can't run this command",
      false,
    ],
    ['ERR Unknown Redis command called from script script: f1, on @user_script:1.', false],
    ['NOPERM this user has no permissions to access one of the keys used as arguments', false],
    ['NOPERM No permissions to access a key', false],
    ['ERR syntax error', false],
    ['NOSCRIPT No matching script. Please use EVAL.', false],
  ])('%s: %s', (message, areDenied) => {
    expect(areScriptsDenied(reply(message))).toBe(areDenied);
  });
});
