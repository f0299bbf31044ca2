import { errorText, isSystemError } from '../../shared/error-text.js';
import {
  ClosedError,
  ConnectTimeoutError,
  ConnectionError,
  GroupMissingError,
  InternalError,
  PermissionError,
  RedisStreamsError,
  ServerReplyError,
  WrongTypeError,
} from '../../errors.js';
import { IS_CLOSED } from '../scripts/shard-layouts.js';
import { ConnectionLost, ProtocolError, ReplyError } from '../wire/resp-reader.js';

/**
 * What a failed command means to the part that sent it.
 *
 * - `connection`: no reply came; whether the command ran is unknown
 * - `failover`: the node is no master (any more); drop the connection and resolve the master again
 * - `retryable`: the server cannot do it at present
 * - `moved`: another node of the cluster serves the key; the command did not run
 * - `group-missing`, `stream-gone`, `wrong-type`, `group-exists`: state of the key
 * - `no-memory`: the server takes nothing that needs more memory (OOM); reading and acknowledging still work
 * - `unreadable`: the server could not read the command, which did not run, and closes the connection; bytes were damaged on
 *   the way, or the command is larger than the server permits
 * - `revoked`: the batch was not appended, and never will be under its number
 * - `interrupted`: a blocked read was ended on purpose (CLIENT UNBLOCK … ERROR)
 * - `permission`: credentials or ACL
 * - `unsupported`: the server does not know the command or one of its arguments
 * - `refused`: any other reply, such as that of a proxy or a quota; nothing is known about it
 * - `unexpected`: neither a reply nor the end of a connection: a mistake in this package, or in a function of the application
 */
export type RedisErrorKind =
  | 'connection'
  | 'failover'
  | 'retryable'
  | 'moved'
  | 'group-missing'
  | 'group-exists'
  | 'stream-gone'
  | 'wrong-type'
  | 'no-memory'
  | 'unreadable'
  | 'revoked'
  | 'interrupted'
  | 'permission'
  | 'unsupported'
  | 'refused'
  | 'unexpected';

/** Every connection over which the batch was sent ended before the server had read it. */
export class BatchRevoked extends Error {
  constructor() {
    super('Every connection over which it was sent ended; it is not in the stream');
  }
}

const KIND_OF_FIRST_WORD: Readonly<Record<string, RedisErrorKind>> = {
  LOADING: 'retryable',
  NOSCRIPT: 'retryable',
  BUSY: 'retryable',
  MASTERDOWN: 'retryable',
  TRYAGAIN: 'retryable',
  EXECABORT: 'retryable',
  CLUSTERDOWN: 'retryable',
  NOREPLICAS: 'retryable',
  MISCONF: 'retryable',
  MOVED: 'moved',
  ASK: 'moved',
  CROSSSLOT: 'retryable',
  READONLY: 'failover',
  NOGROUP: 'group-missing',
  BUSYGROUP: 'group-exists',
  WRONGTYPE: 'wrong-type',
  OOM: 'no-memory',
  NOAUTH: 'permission',
  WRONGPASS: 'permission',
  NOPERM: 'permission',
};

/**
 * Before Redis 7.0 the error of a command inside a script comes as `ERR Error running script (call to …): …: -NOGROUP …`,
 * and one that the script has caught may come as `@user_script: 5: -OOM …`.
 */
const ERROR_IN_SCRIPT = /^(?:ERR Error running script .*?|@user_script: \d+): -?([A-Z]{2,}) /;

/** Inside a script NOPERM has no word of its own; the second form came with Redis 7.2. */
const DENIED_IN_SCRIPT = /The user executing the script can't|^ERR ACL failure in script/;

/** EVAL or EVALSHA in the refusal of a command; Redis names the command itself, not the key or the command inside of a script. */
const NAMES_SCRIPTS = /\beval(?:sha)?\b/i;
const UNKNOWN_COMMAND = /^ERR unknown command/i;

/** First word of a server's error reply; undefined for anything that is not a reply. */
export function replyWord(error: unknown): string | undefined {
  if (!(error instanceof ReplyError)) return undefined;
  return ERROR_IN_SCRIPT.exec(error.message)?.[1] ?? error.message.split(' ', 1)[0];
}

/** Decides by class and by the reply's first word; texts differ between servers and are read only where one word has two meanings. */
export function classifyRedisError(error: unknown): RedisErrorKind {
  const word = replyWord(error);
  if (word === undefined) return kindWithoutReply(error);
  const message = (error as Error).message;
  if (word === 'UNBLOCKED') {
    if (message.includes('no longer exists')) return 'stream-gone';
    return message.includes('force unblock') ? 'failover' : 'interrupted';
  }
  if (word === 'ERR' && /^ERR (unknown|syntax|wrong number of arguments)/i.test(message)) return 'unsupported';
  if (word === 'ERR' && message.startsWith('ERR Protocol error')) return 'unreadable';
  if (word === 'ERR' && /max number of clients/.test(message)) return 'retryable';
  if (word === 'ERR' && /no such key/i.test(message)) return 'stream-gone';
  // XGROUP on a missing key has a sentence instead of a code word.
  if (word === 'ERR' && /requires the key to exist/.test(message)) return 'stream-gone';
  if (word === 'ERR' && /^ERR (AUTH|Client sent AUTH)|invalid password/.test(message)) return 'permission';
  return KIND_OF_FIRST_WORD[word] ?? (DENIED_IN_SCRIPT.test(message) ? 'permission' : 'refused');
}

/**
 * The end of a connection is known by what the wire, Node.js and this package throw for it; a TypeError looks like none of
 * them. By classes, codes and names that are literals: a minified bundle shortens the names of classes.
 */
function kindWithoutReply(error: unknown): RedisErrorKind {
  if (error instanceof BatchRevoked) return 'revoked';
  if (error instanceof PermissionError) return 'permission';
  if (error instanceof RedisStreamsError)
    return error.retryable || error instanceof ClosedError ? 'connection' : 'unexpected';
  if (error instanceof ConnectionLost || error instanceof ProtocolError || isSystemError(error)) return 'connection';
  // A wait for the connection was ended, by its signal.
  return error instanceof DOMException && ENDED_WAITS.has(error.name) ? 'connection' : 'unexpected';
}

const ENDED_WAITS: ReadonlySet<string> = new Set(['AbortError', 'TimeoutError']);

/** Errors of a connection that did not exist; nothing was sent over it. */
const NEVER_SENT = [ConnectTimeoutError, ClosedError, PermissionError];

/** Whether a command whose connection failed had been sent, so that it may have run. */
export function wasSent(error: Error): boolean {
  if (NEVER_SENT.some((type) => error instanceof type)) return false;
  const loss = error instanceof ConnectionError ? error.cause : error;
  return !(loss instanceof ConnectionLost) || loss.wasWritten;
}

/**
 * Whether the server refused a command for the slot of its key alone: another node serves it (MOVED, ASK), none does, or the
 * keys of a script are on two nodes while it is being migrated (TRYAGAIN). Keys of other slots are served.
 */
export function concernsSlot(error: unknown): boolean {
  const word = replyWord(error);
  if (word === 'CLUSTERDOWN') return (error as Error).message.includes('slot not served');
  return word === 'TRYAGAIN' || classifyRedisError(error) === 'moved';
}

/**
 * Whether no script can be run: EVAL and EVALSHA are refused, or have another name there. Not where the ACL refuses a command of one
 * script, or one of its keys: other scripts are permitted.
 */
export function areScriptsDenied(error: unknown): boolean {
  if (!(error instanceof ReplyError)) return false;
  if (UNKNOWN_COMMAND.test(error.message)) return true;
  return ['permission', 'unsupported'].includes(classifyRedisError(error)) && NAMES_SCRIPTS.test(error.message);
}

/** Whether Redis refused to append because the shard was closed: the entry is not in it, and never will be. */
export function isShardClosed(error: unknown): boolean {
  return error instanceof ReplyError && error.message.startsWith(IS_CLOSED);
}

/** Whether doing the same again later can help. */
export function isTransient(kind: RedisErrorKind): boolean {
  return ['connection', 'failover', 'retryable', 'moved', 'unreadable', 'revoked'].includes(kind);
}

/** States of a key, which a reader can repair or finds permanent. */
const OF_KEYS: ReadonlySet<RedisErrorKind> = new Set(['group-missing', 'stream-gone', 'wrong-type']);

export function isOfKey(kind: RedisErrorKind): boolean {
  return OF_KEYS.has(kind);
}

/**
 * Neither an outage, nor the state of a key, nor what passes soon, nor a read that was ended on purpose: only another server,
 * user or proxy cures it, which may happen any time. It is never final.
 */
export function isRefusal(kind: RedisErrorKind): boolean {
  return !isTransient(kind) && !OF_KEYS.has(kind) && kind !== 'no-memory' && kind !== 'interrupted';
}

/** The error that a caller of the engine sees for a failed command on `streamKey`. */
export function toPublicError(error: unknown, streamKey: string, action: string): RedisStreamsError {
  if (error instanceof RedisStreamsError) return error;
  const kind = classifyRedisError(error);
  const text = errorText(error);
  switch (kind) {
    case 'connection':
      return new ConnectionError(`The connection broke while ${action} '${streamKey}': ${text}`, error);
    case 'unexpected':
      return new InternalError(`An unexpected error while ${action} '${streamKey}': ${text}`, error);
    case 'wrong-type':
      return new WrongTypeError(streamKey, error);
    case 'group-missing':
    case 'stream-gone':
      return new GroupMissingError(streamKey, undefined, error);
    case 'permission':
      return new PermissionError(`Redis refused ${action} '${streamKey}': ${text}`, error);
    default:
      return new ServerReplyError(
        `Redis refused ${action} '${streamKey}': ${text}`,
        replyWord(error) ?? 'ERR',
        isTransient(kind) || kind === 'no-memory',
        error,
      );
  }
}

/** What is asked for; undefined where the server or the permissions do not offer it. */
export async function unlessRefused<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (['permission', 'unsupported', 'refused'].includes(classifyRedisError(error))) return undefined;
    throw error;
  }
}
