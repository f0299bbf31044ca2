import { StreamMessage } from '../../engine/messages/stream-message.js';
import { deadlineIn } from '../deadlines.js';

/** Headers of requests and replies; their fields have the prefix `h:`. */
export const REQUEST_HEADERS = Object.freeze({
  correlationId: 'correlation-id',
  replyTo: 'reply-to',
  /** When the client no longer waits, in milliseconds since the epoch by the clock of Redis. */
  deadline: 'deadline',
  /** On the last reply to a request. */
  final: 'final',
  /** On a reply whose payload is an error. */
  error: 'error',
  /** On each reply before the last one: an id of the answer, and the number of the reply in it. */
  part: 'part',
});

/**
 * Time to live of a reply stream, in milliseconds. The server sets it with a reply, and the client renews it while it waits:
 * a client that is gone lets it expire.
 */
export const REPLY_STREAM_TTL = 120_000;
/** How often it is set at most, and how often a client that waits renews it. */
export const TTL_RENEWAL = 30_000;

/**
 * Longest correlation id, and longest name of a reply stream after its prefix, in characters. The server writes the one to
 * the other with each reply, and remembers the name: who may send a request must not choose how much that is.
 */
export const MAX_HEADER_LENGTH = 512;

/** The headers of a request, read. */
export interface RequestInfo {
  readonly correlationId: string;
  readonly replyTo: string;
  /** Infinity without the header. */
  readonly deadline: number;
}

/** Undefined for an event. */
export function requestInfoOf(message: StreamMessage): RequestInfo | undefined {
  const correlationId = StreamMessage.headerOf(message, REQUEST_HEADERS.correlationId);
  const replyTo = StreamMessage.headerOf(message, REQUEST_HEADERS.replyTo);
  if (correlationId === undefined || replyTo === undefined) return undefined;
  const deadline = deadlineIn(StreamMessage.headerOf(message, REQUEST_HEADERS.deadline));
  return { correlationId, replyTo, deadline };
}

/** The place of a reply in a streamed answer. */
export interface AnswerPart {
  /** Names one run of a handler: a request that is handled again has another answer. */
  readonly answer: string;
  /** From 1 on. */
  readonly number: number;
}

export function partHeader({ answer, number }: AnswerPart): string {
  return `${answer}-${number}`;
}

/** Undefined for a reply without the header, and for text that is none. */
export function partOf(message: StreamMessage): AnswerPart | undefined {
  const part = StreamMessage.headerOf(message, REQUEST_HEADERS.part);
  const [, answer, number] = (part === undefined ? undefined : /^(\w+)-(\d+)$/.exec(part)) ?? [];
  return answer === undefined ? undefined : { answer, number: Number(number) };
}
