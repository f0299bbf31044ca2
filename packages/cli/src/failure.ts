import { InvalidOptionError, RedisStreamsError } from 'nestjs-redis-streams/engine';

/** The exit codes of the tool. */
export const EXIT = { done: 0, failed: 1, usage: 2, found: 3 } as const;

/** The command line is wrong; nothing was done. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The command could not be executed. */
export class FailedError extends Error {
  override readonly name = 'FailedError';
}

/** A check found something, which it has printed. */
export class CheckFoundError extends Error {
  override readonly name = 'CheckFoundError';
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof CheckFoundError) return EXIT.found;
  if (error instanceof UsageError || error instanceof InvalidOptionError) return EXIT.usage;
  return EXIT.failed;
}

/** One line for the user; for a defect of the tool, the lines of its stack. */
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

/** Removes passwords: an error quotes a URL that was given in place of another argument. */
export function withoutSecrets(text: string): string {
  return text.replace(/\/\/\S*@/g, '//***@');
}
