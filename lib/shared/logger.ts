import { callSafely } from './callbacks.js';
import { InvalidOptionError } from './errors.js';

/** A logger for this package, for example Nest's `Logger` or `console`. */
export interface RedisStreamsLogger {
  /** A failure that needs attention. */
  error(message: string): void;
  /** A condition that may lead to a failure. */
  warn(message: string): void;
  /** What happens in normal operation, connections for example. */
  log(message: string): void;
  /** Details; not required. */
  debug?(message: string): void;
}

/** The logger of an option: undefined is the default, false logs nothing. @throws InvalidOptionError */
export function resolveLogger(
  option: RedisStreamsLogger | false | undefined,
  makeDefault: () => RedisStreamsLogger,
): Required<RedisStreamsLogger> {
  if (option === false) return NO_LOGGER;
  if (option === undefined) return safeLogger(makeDefault());
  const { error, warn, log } = (option ?? {}) as Partial<RedisStreamsLogger>;
  if ([error, warn, log].every((method) => typeof method === 'function')) return safeLogger(option);
  throw new InvalidOptionError('logger', 'must be an object with the methods error, warn and log, or false', option);
}

/** Wraps a logger, so that an error that it throws cannot stop a background loop. */
export function safeLogger(logger: RedisStreamsLogger): Required<RedisStreamsLogger> {
  const guard =
    (level: keyof RedisStreamsLogger) =>
    (message: string): void => {
      // A logger that fails leaves no place to report to.
      callSafely(
        () => logger[level]?.(message),
        () => undefined,
      );
    };
  return { error: guard('error'), warn: guard('warn'), log: guard('log'), debug: guard('debug') };
}

const ignore = (): void => undefined;
const NO_LOGGER = Object.freeze({ error: ignore, warn: ignore, log: ignore, debug: ignore });

/** The default logger of the engine: errors and warnings go to the console. */
export const consoleLogger: RedisStreamsLogger = Object.freeze({
  error: (message: string) => console.error(`[RedisStreams] ${message}`),
  warn: (message: string) => console.warn(`[RedisStreams] ${message}`),
  log: () => undefined,
});
