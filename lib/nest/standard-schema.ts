import { CallbackError, PayloadInvalidError } from '../errors.js';
import type { PayloadIssue } from '../errors.js';
import { isPromise } from '../shared/callbacks.js';

/**
 * A schema of Zod, Valibot, ArkType or any other library that follows [Standard Schema](https://standardschema.dev), as far
 * as it is used here.
 */
export interface StandardSchemaV1<Input = unknown, Output = Input> {
  /** The members that the specification requires. */
  readonly '~standard': {
    /** Version of the specification. */
    readonly version: 1;
    /** Name of the schema library. */
    readonly vendor: string;
    /** Checks a value, and returns the one that a handler receives. */
    readonly validate: (value: unknown) => StandardSchemaResult<Output> | Promise<StandardSchemaResult<Output>>;
    /** The types of the schema, for the compiler only. */
    readonly types?:
      | {
          /** What the schema accepts. */
          readonly input: Input;
          /** What it returns. */
          readonly output: Output;
        }
      | undefined;
  };
}

/** The value, or the issues that the schema found. */
export type StandardSchemaResult<Output> =
  | {
      /** The value that a handler receives. */
      readonly value: Output;
      /** None. */
      readonly issues?: undefined;
    }
  | {
      /** Why the schema refuses the value. */
      readonly issues: ReadonlyArray<PayloadIssue>;
    };

/**
 * The data as the schema returns it; a promise where the schema is asynchronous.
 * @throws PayloadInvalidError, or CallbackError when the schema itself fails
 */
export function validate(schema: StandardSchemaV1, pattern: string, data: unknown): unknown {
  try {
    const result = schema['~standard'].validate(data);
    if (!isPromise(result)) return valueOf(result, pattern);
    return Promise.resolve(result)
      .then((awaited) => valueOf(awaited, pattern))
      .catch((error: unknown) => Promise.reject(failureOf(error, pattern)));
  } catch (error) {
    throw failureOf(error, pattern);
  }
}

function valueOf(result: StandardSchemaResult<unknown>, pattern: string): unknown {
  if (result?.issues) throw new PayloadInvalidError(pattern, result.issues);
  // A validator that was written by hand may return the data itself, or nothing: a handler must not get undefined for that.
  if (!('value' in (Object(result) as object))) throw new TypeError('it must return { value } or { issues }');
  return result.value;
}

function failureOf(error: unknown, pattern: string): Error {
  return error instanceof PayloadInvalidError ? error : new CallbackError(`schemas['${pattern}']`, error);
}
