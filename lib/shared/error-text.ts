import { types } from 'node:util';

/**
 * Whether a thrown value is an Error. An error of another realm, as those of Node's own modules inside a VM context, is no
 * `instanceof Error`; one that no class made, as those of rxjs, is no native error.
 */
export function isError(thrown: unknown): thrown is Error {
  return types.isNativeError(thrown) || thrown instanceof Error;
}

/** A thrown value as text for a log, never empty: the message of an Error, an object as JSON. */
export function errorText(thrown: unknown): string {
  if (isError(thrown)) return messageOf(thrown);
  if (typeof thrown === 'string') return thrown || 'an empty text';
  // The reason of AbortSignal.timeout() is a DOMException, which is no native error, and has no properties as JSON.
  if (thrown instanceof DOMException) return thrown.message || thrown.name;
  try {
    return JSON.stringify(thrown) ?? typeof thrown;
  } catch {
    return Object.prototype.toString.call(thrown);
  }
}

/** Members of an AggregateError that its text names; a host has two addresses, seldom more. */
const MAX_MEMBERS = 4;

/** The AggregateError of Node.js for a host with two addresses, as `localhost` often is, has no message of its own. */
function textWithoutMessage(error: Error): string {
  const { errors = [], code } = error as Partial<AggregateError> & NodeJS.ErrnoException;
  const texts = [...new Set((Array.isArray(errors) ? errors : []).map(errorText))];
  const left = texts.length - MAX_MEMBERS;
  if (left > 0) texts.splice(MAX_MEMBERS, left, `${left} more`);
  // The code of a DOMException is a number, which says less than its name.
  return texts.join('; ') || (typeof code === 'string' && code) || error.name || 'Error';
}

/** The stack of an Error that has one, with its details; otherwise as {@link errorText}. */
export function errorTextWithStack(thrown: unknown): string {
  if (!isError(thrown) || !thrown.stack) return errorText(thrown);
  const text = messageOf(thrown);
  return thrown.stack.includes(text) ? thrown.stack : `${text}\n${thrown.stack}`;
}

/** Longest text of the details of an error, in characters. */
const MAX_DETAILS = 2_000;

function messageOf(error: Error): string {
  const message = error.message || textWithoutMessage(error);
  const details = [...new Set(linesOf(detailsOf(error)))].filter((line) => line !== message).join('; ');
  if (details === '') return message;
  return `${message}: ${details.length > MAX_DETAILS ? `${details.slice(0, MAX_DETAILS)}…` : details}`;
}

/** Exceptions of Nest keep there, and a validation pipe only there, what was wrong. */
function detailsOf(error: Error): unknown {
  const { getResponse, getError } = error as { getResponse?: unknown; getError?: unknown };
  const ask = typeof getResponse === 'function' ? getResponse : getError;
  if (typeof ask !== 'function') return undefined;
  try {
    return ask.call(error) as unknown;
  } catch {
    // A method of the application; the message remains.
    return undefined;
  }
}

/** The texts of a response of Nest, of errors of class-validator, or of issues of a schema, each with its path. */
function linesOf(details: unknown, seen = new Set<unknown>()): string[] {
  if (typeof details === 'string') return [details];
  if (typeof details !== 'object' || details === null || isError(details) || seen.has(details)) return [];
  seen.add(details);
  if (Array.isArray(details)) return details.flatMap((item) => linesOf(item, seen));
  const { message, errors, constraints, children, path, property } = details as Record<string, unknown>;
  const own = [message, errors, Object.values(Object(constraints) as object)].flatMap((part) => linesOf(part, seen));
  const at = Array.isArray(path) ? path.join('.') : path;
  const located = typeof at === 'string' && at !== '' ? own.map((line) => `${at}: ${line}`) : own;
  return [...located, ...linesOf(children, seen).map((line) => `${String(property)}.${line}`)];
}

/** A text in which no URL has a user name or password. */
export function withoutCredentials(text: string): string {
  return text.replace(/(\w:\/\/)\S*@/g, '$1…@');
}

/** Properties of errors of Node.js. Others may hold a URL, as `input` of an invalid one does, a command or a request. */
const HARMLESS = new Set([
  'name',
  'code',
  'errno',
  'syscall',
  'address',
  'port',
  'hostname',
  'host',
  'reason',
  'library',
]);

/** A thrown value as the cause of an error: the value itself, or a copy without everything that may hold a password. */
export function withoutSecrets(thrown: unknown): unknown {
  if (typeof thrown === 'string') return withoutCredentials(thrown);
  if (!isError(thrown)) return thrown instanceof DOMException ? thrown : kindOf(thrown);
  if (isHarmless(thrown)) return thrown;
  const { name, message, stack, cause } = thrown;
  const { errors } = thrown as Partial<AggregateError>;
  const copy = new Error(withoutCredentials(message), cause === undefined ? {} : { cause: withoutSecrets(cause) });
  const kept = Object.entries(thrown).filter(([property]) => HARMLESS.has(property));
  return Object.assign(copy, Object.fromEntries(kept), {
    name,
    stack: withoutCredentials(stack ?? ''),
    ...(Array.isArray(errors) ? { errors: errors.map(withoutSecrets) } : {}),
  });
}

function isHarmless(thrown: unknown): boolean {
  if (thrown === undefined) return true;
  if (!isError(thrown)) return false;
  const { message, cause } = thrown;
  const { errors = [] } = thrown as Partial<AggregateError>;
  return (
    withoutCredentials(message) === message &&
    Object.keys(thrown).every((property) => HARMLESS.has(property)) &&
    [cause, ...errors].every(isHarmless)
  );
}

/** What a value is, without its content. */
export function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return 'an object';
  return `a ${typeof value}`;
}

const SYSTEM_CODE = /^(?:E[A-Z]+|ERR_(?:STREAM|SOCKET|TLS|SSL)_.*)$/;

/** Whether Node.js threw it for a socket, TLS or DNS; its errors for arguments that are not valid are mistakes of a caller. */
export function isSystemError(thrown: unknown): boolean {
  // Node's own errors come from another realm inside a VM context.
  if (!types.isNativeError(thrown)) return false;
  const { code, syscall } = thrown as NodeJS.ErrnoException;
  return typeof syscall === 'string' || (typeof code === 'string' && SYSTEM_CODE.test(code));
}
