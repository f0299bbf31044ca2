import { ConnectionError } from 'nestjs-redis-streams/engine';
import { readableDuration } from './time.js';

/** Errors of ioredis by their classes, and those of class `Error`, which have no code, by their text. */
const NAMES = new Set(['AbortError', 'MaxRetriesPerRequestError', 'ClusterAllFailedError']);
const TIMEOUT = 'Command timed out';
const CLOSED = 'Connection is closed.';

/** Whether a client of ioredis got no reply: the command was carried out or not. */
export function isUnanswered(error: unknown): error is Error {
  return error instanceof Error && (NAMES.has(error.name) || error.message === TIMEOUT || error.message === CLOSED);
}

/** Whether the server answered with an error. */
export function isReplyError(error: unknown): error is Error {
  return error instanceof Error && error.name === 'ReplyError';
}

/** Whether the server refused one command: the user may not call it, or a managed service does not have it. */
export function isCommandRefused(error: unknown): boolean {
  return isReplyError(error) && !/^(?:NOAUTH|WRONGPASS)\b/.test(error.message);
}

/** The error for the user: ioredis tells in words for programmers of a command that was not answered. */
export function explained(error: unknown, timeout: number): unknown {
  if (error instanceof Error && error.message.includes('CLUSTERDOWN')) {
    return new ConnectionError('The cluster is down: it serves no key before each slot has a master', error);
  }
  if (!isUnanswered(error)) return error;
  const what =
    error.message === TIMEOUT ? `did not answer within ${readableDuration(timeout)}` : 'closed the connection';
  return new ConnectionError(`Redis ${what}`, error);
}
