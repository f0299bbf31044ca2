import { withoutCredentials } from './error-text.js';

/** What every error of this package has; `code` never changes, `message` may. */
export interface RedisStreamsErrorOptions {
  /**
   * The underlying error.
   * @defaultValue none
   */
  cause?: unknown;
  /** Whether the same call may succeed later. @defaultValue false */
  retryable?: boolean;
}

/** Base class of all errors that this package throws, rejects with, or reports. */
export class RedisStreamsError extends Error {
  /** Name of the class, also in minified code. */
  override readonly name: string = 'RedisStreamsError';
  /** Stable identification, `ERR_…`. */
  readonly code: string;
  /** Whether the same call may succeed later without a change by the caller. */
  readonly retryable: boolean;

  constructor(code: string, message: string, options: RedisStreamsErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = new.target.name;
    this.code = code;
    this.retryable = options.retryable ?? false;
  }
}

/** Stands for a value that an error must neither name nor hold. */
const HIDDEN = Symbol('hidden');

/** An option or argument was refused before any I/O. */
export class InvalidOptionError extends RedisStreamsError {
  override readonly name: string = 'InvalidOptionError';
  /** Name of the option or argument, as the caller wrote it. */
  readonly option: string;
  /** The value that was given; undefined where it may hold a password or a payload, as a URL and an object may. */
  readonly value: unknown;

  constructor(option: string, rule: string, value: unknown, cause?: unknown) {
    super(
      'ERR_INVALID_OPTION',
      withoutCredentials(`${option} ${rule}${value === HIDDEN ? '' : `; got ${describeValue(value)}`}`),
      cause === undefined ? {} : { cause },
    );
    this.option = withoutCredentials(option);
    this.value = value === HIDDEN || isConfidential(value) ? undefined : value;
  }

  /**
   * For a value that may hold a password, or that the rule describes.
   * @internal
   */
  static withoutValue(option: string, rule: string, cause?: unknown): InvalidOptionError {
    return new InvalidOptionError(option, rule, HIDDEN, cause);
  }
}

/**
 * Whether an error must not keep a value: it is logged with its properties. A list of lists counts as an object: it may be a payload,
 * however deep.
 */
function isConfidential(value: unknown): boolean {
  if (Array.isArray(value)) return value.some((item) => Array.isArray(item) || isConfidential(item));
  if (typeof value === 'string') return withoutCredentials(value) !== value;
  return (typeof value === 'object' && value !== null && !(value instanceof Date)) || typeof value === 'function';
}

/** A value that an option was given, for a message. */
function describeValue(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value);
  if (typeof value === 'bigint') return `${value}n`;
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? 'an invalid Date' : value.toISOString();
  if (typeof value === 'function') return 'a function';
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : `an array of ${value.length}`;
  if (typeof value === 'object' && value !== null)
    return `an object with ${Object.keys(value).join(', ') || 'no keys'}`;
  return String(value);
}
