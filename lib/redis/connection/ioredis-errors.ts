import { RedisStreamsError } from '../../errors.js';
import { isSystemError, withoutSecrets } from '../../shared/error-text.js';
import { ConnectionLost, ReplyError } from '../wire/resp-reader.js';
import { ReplyError as IoredisReplyError } from './ioredis.js';

/** Base class of the errors that the libraries under ioredis throw: replies, aborted commands, unreadable replies. */
const IoredisError = Object.getPrototypeOf(IoredisReplyError) as typeof Error;

/** What ioredis says of a command whose connection has failed, for a reason that it reports apart. */
export const CLOSED = 'Connection is closed.';

/** ioredis has no class and no code for these; they begin so in versions 5 and 6. */
const LOST =
  /^(?:Connection is closed|Command timed out|Socket timeout|Stream isn't writeable|Reached the max retries)/;

/**
 * The error of a command that ioredis has sent: a reply of the server, the end of the connection, or, when it is neither,
 * the error itself: a mistake must not look like an outage.
 */
export function failureOf(reason: unknown): Error {
  const error = reason as Error;
  if (isReply(error)) return new ReplyError(error.message);
  return isLoss(error) ? new ConnectionLost(error.message) : error;
}

/**
 * The cause of a failure to connect. ioredis adds the command and its arguments to an error; they may be a payload or a
 * password, as those of AUTH are. Errors of a function of the application may hold anything.
 */
export function publicCause(error: unknown): unknown {
  if (error instanceof RedisStreamsError) return error;
  return error instanceof Error && 'command' in error ? withoutCommand(error) : withoutSecrets(error);
}

function withoutCommand(error: Error): Error {
  return isReply(error) ? new ReplyError(error.message) : new ConnectionLost(error.message);
}

/**
 * By class first. A client of another copy of ioredis has another class, and a bundle that is minified another name; what
 * then remains is the command that ioredis adds, and the upper-case word with which replies begin.
 */
function isReply(error: Error): boolean {
  if (error instanceof IoredisReplyError || error.name === 'ReplyError') return true;
  return 'command' in error && /^[A-Z]{2,}(?: |$)/.test(error.message);
}

function isLoss(error: Error): boolean {
  return isSystemError(error) || LOST.test(error.message) || error instanceof IoredisError;
}
