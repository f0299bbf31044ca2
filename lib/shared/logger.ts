import { callSafely } from './callbacks.js';

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

/** The default logger of the engine: errors and warnings go to the console. */
export const consoleLogger: RedisStreamsLogger = Object.freeze({
  error: (message: string) => console.error(`[RedisStreams] ${message}`),
  warn: (message: string) => console.warn(`[RedisStreams] ${message}`),
  log: () => undefined,
});
