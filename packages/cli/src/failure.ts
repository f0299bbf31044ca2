import { InvalidOptionError, RedisStreamsError } from 'nestjs-redis-streams/engine';

/** The exit codes of the tool. */
export const EXIT = { done: 0, failed: 1, usage: 2, found: 3 } as const;

/** What was asked makes no sense; nothing was done. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What was asked could not be done. */
export class FailedError extends Error {
  override readonly name = 'FailedError';
}

/** A check found something, which was printed. */
export class CheckFoundError extends Error {
  override readonly name = 'CheckFoundError';
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof CheckFoundError) return EXIT.found;
  if (error instanceof UsageError || error instanceof InvalidOptionError) return EXIT.usage;
  return EXIT.failed;
}

/** One line for the user. A defect of the tool comes with its stack, in several. */
export function failureLines(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)];
  const isExpected =
    error instanceof UsageError ||
    error instanceof FailedError ||
    error instanceof RedisStreamsError ||
    'code' in error ||
    error.name === 'ReplyError';
  if (!isExpected) return (error.stack ?? error.message).split('\n');
  const isNodeOfCluster = /: MOVED \d/.test(error.message);
  return [`${error.message}${isNodeOfCluster ? '. The server is a node of a cluster: add --cluster' : ''}`];
}

/** A URL in the place of another argument is quoted in the error, which must not print its password. */
export function withoutSecrets(text: string): string {
  return text.replace(/\/\/\S*@/g, '//***@');
}
