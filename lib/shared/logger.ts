/** What this package needs of a logger; Nest's `Logger` and `console` both fit. */
export interface RedisStreamsLogger {
  error(message: string): void;
  warn(message: string): void;
  log(message: string): void;
  debug?(message: string): void;
}

/** Wraps a logger so that one that throws cannot stop a background loop. */
export function safeLogger(logger: RedisStreamsLogger): Required<RedisStreamsLogger> {
  const guard =
    (level: keyof RedisStreamsLogger) =>
    (message: string): void => {
      try {
        logger[level]?.(message);
      } catch {
        // There is nowhere left to report to.
      }
    };
  return { error: guard('error'), warn: guard('warn'), log: guard('log'), debug: guard('debug') };
}

/** Errors and warnings to the console, nothing else: what an engine without Nest says by itself. */
export const consoleLogger: RedisStreamsLogger = Object.freeze({
  error: (message: string) => console.error(`[RedisStreams] ${message}`),
  warn: (message: string) => console.warn(`[RedisStreams] ${message}`),
  log: () => undefined,
});
