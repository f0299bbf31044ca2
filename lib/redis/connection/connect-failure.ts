import { ConnectionError, PermissionError, RedisStreamsError } from '../../errors.js';
import { errorText } from '../../shared/error-text.js';
import { classifyRedisError, replyWord } from '../commands/redis-error.js';

/** A database that does not exist, or a server that is no cluster. The only word that Redis has for either is ERR. */
const NEVER_ACCEPTED = /^ERR (?:DB index is out of range|invalid DB index|This instance has cluster support disabled)/;

/** By the codes with which OpenSSL and Node.js say why they do not trust a certificate. */
const NOT_TRUSTED =
  /^(?:CERT_|CRL_|ERROR_IN_C|UNABLE_TO_(?:GET|VERIFY|DECODE|DECRYPT)_|SELF_SIGNED_|DEPTH_ZERO_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|ERR_TLS_CERT_)/;

/** The alerts by which a server refuses the certificate of its client, or that it sent none. */
const CLIENT_NOT_TRUSTED =
  /^ERR_SSL_\w+_ALERT_(?:BAD_CERTIFICATE|NO_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_\w+|UNKNOWN_CA|ACCESS_DENIED|HANDSHAKE_FAILURE|PROTOCOL_VERSION)$/;

/** A key or certificate that OpenSSL cannot read, or an option that Node.js does not take: nothing was connected. */
const UNUSABLE = /^(?:ERR_OSSL_|ERR_INVALID_ARG_|ERR_TLS_(?:INVALID_PROTOCOL|PROTOCOL_VERSION|REQUIRED_SERVER_NAME))/;

/**
 * The error for a failure to connect, which says whether waiting can help.
 * @param peer the server as the subject of a sentence
 */
export function connectFailure(peer: string, cause: unknown): RedisStreamsError {
  if (cause instanceof RedisStreamsError) return cause;
  const text = errorText(cause);
  if (classifyRedisError(cause) === 'permission') {
    return new PermissionError(`${peer} refused the login: ${text}`, cause);
  }
  const never = (message: string): ConnectionError => new ConnectionError(message, cause, false);
  if (replyWord(cause) !== undefined && NEVER_ACCEPTED.test(text)) {
    return never(`${peer} refused the connection: ${text}`);
  }
  // Not by class: Node's own errors come from another realm inside a VM context.
  const { code, reason } = Object(cause) as { code?: unknown; reason?: unknown };
  if (NOT_TRUSTED.test(String(code))) return never(`The certificate of ${peer} is refused: ${text}`);
  if (CLIENT_NOT_TRUSTED.test(String(code))) {
    return never(
      `${peer} refused the TLS handshake, or the certificate of this client: ${typeof reason === 'string' ? reason : text}`,
    );
  }
  if (UNUSABLE.test(String(code))) return never(`The options of the connection to ${peer} cannot be used: ${text}`);
  return new ConnectionError(`${peer} cannot be reached: ${text}`, cause);
}

/**
 * Whether waiting does not help: wrong credentials, a certificate that is not trusted, a database that does not exist, or a
 * function that does not return a new client.
 */
export function isMisconfiguration(failure: Error | undefined): failure is RedisStreamsError {
  return failure instanceof RedisStreamsError && !failure.retryable;
}

/** Of the reasons why several peers failed, one that waiting may cure: one odd peer among others is no misconfiguration. */
export function decisiveReason(reasons: readonly Error[]): Error | undefined {
  return reasons.find((reason) => connectFailure('', reason).retryable) ?? reasons.at(-1);
}
