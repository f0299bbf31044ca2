import { HttpException } from '@nestjs/common';
import { userNameOf } from './security/user-name.js';

/** Who waits for an answer. */
export interface Client {
  /** Null where the guards of the application tell none. */
  readonly user: string | null;
  /** Aborted when the client has closed the connection: the answer would reach no client. */
  readonly signal?: AbortSignal;
}

interface Connection {
  readonly closed?: boolean;
  once(event: 'close', listener: () => void): unknown;
}

/** As other servers say it; no client sees this status. */
const CLIENT_CLOSED_REQUEST = 499;

/** The client of a request that only reads. */
export function clientOf(request: unknown, response: unknown): Client {
  const connection = responseOfNode(response) as Connection;
  const gone = new AbortController();
  const abort = (): void => gone.abort(new HttpException('The client has closed the request', CLIENT_CLOSED_REQUEST));
  if (connection.closed) abort();
  else connection.once('close', abort);
  return { user: userNameOf(request), signal: gone.signal };
}

/** The response of Node, which Fastify wraps. */
export function responseOfNode(response: unknown): unknown {
  const { raw = response } = response as { raw?: unknown };
  return raw;
}
