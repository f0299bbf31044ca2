import type { StreamMessage } from '../../engine/messages/stream-message.js';

/** Headers of requests and replies, as they stand behind `h:`. */
export const REQUEST_HEADERS = Object.freeze({
  correlationId: 'correlation-id',
  replyTo: 'reply-to',
  /** Milliseconds since the epoch; later the client does not wait any more. */
  deadline: 'deadline',
  /** On the last reply to a request. */
  final: 'final',
  /** On a reply whose payload is an error. */
  error: 'error',
});

/** What makes a message a request. */
export interface RequestInfo {
  readonly correlationId: string;
  readonly replyTo: string;
  readonly deadline: number;
}

/** Undefined for an event. */
export function requestInfoOf({ headers }: StreamMessage): RequestInfo | undefined {
  const correlationId = headers[REQUEST_HEADERS.correlationId];
  const replyTo = headers[REQUEST_HEADERS.replyTo];
  if (correlationId === undefined || replyTo === undefined) return undefined;
  const deadline = headers[REQUEST_HEADERS.deadline];
  // What is no time must not be taken for one that is over: Number('') is 0.
  return { correlationId, replyTo, deadline: deadline && /^\d+$/.test(deadline) ? Number(deadline) : Infinity };
}
