import type { Observable } from 'rxjs';
import { EMPTY, from, map, of, switchMap, throwError } from 'rxjs';

import { Receipt } from '../engine/messages/receipt.js';
import { NoHandlerError } from '../errors.js';
import { ClientRedisStreams } from '../nest/client/redis-streams.client.js';
import { checkPayload } from '../nest/packet-codec.js';
import { RedisStreamsRecord } from '../nest/redis-streams.record.js';
import type { RecordDelivery } from '../nest/redis-streams.record.js';
import type { TestServerRedisStreams } from './test-server.js';

/** An event or request that the application sent. */
export interface SentMessage {
  readonly kind: 'event' | 'request';
  readonly pattern: unknown;
  readonly data: unknown;
  readonly headers: Readonly<Record<string, string>>;
  readonly key: string | undefined;
  readonly deduplicationId: string | undefined;
  /** In milliseconds. */
  readonly delay: number | undefined;
  readonly deliverAt: Date | undefined;
}

/**
 * Replaces `ClientRedisStreams` in the tests of an application: it records each message that is sent and makes no
 * connection. Given a {@link TestServerRedisStreams}, it has requests answered by the handlers of that server.
 */
export class TestClientRedisStreams extends ClientRedisStreams {
  /** Everything that was sent, in order. */
  readonly sent: SentMessage[] = [];
  readonly #server: TestServerRedisStreams | undefined;

  constructor(server?: TestServerRedisStreams) {
    super();
    this.#server = server;
  }

  override async connect(): Promise<void> {
    // No connection is needed.
  }

  override emit<TResult = Receipt, TInput = unknown>(pattern: unknown, data: TInput): Observable<TResult> {
    return this.#emitAll(pattern, [data]).pipe(map(([receipt]) => receipt as TResult));
  }

  override emitBatch<TInput = unknown>(pattern: unknown, messages: readonly TInput[]): Observable<Receipt[]> {
    return this.#emitAll(pattern, messages);
  }

  /** Records them at once, unless the schema of a catalog is asynchronous or refuses one of them. */
  #emitAll(pattern: unknown, messages: readonly unknown[]): Observable<Receipt[]> {
    const record = (): Receipt[] =>
      messages.map((data) => {
        this.#note('event', pattern, data);
        return this.#receipt(pattern, data instanceof RedisStreamsRecord ? data : {});
      });
    try {
      const checks = messages.flatMap((data) => checkPayload({ pattern, data }) ?? []);
      if (checks.length === 0) return of(record());
      const recording = Promise.all(checks).then(record);
      recording.catch(() => undefined);
      return from(recording);
    } catch (error) {
      return throwError(() => error);
    }
  }

  override send<TResult = unknown, TInput = unknown>(pattern: unknown, data: TInput): Observable<TResult> {
    this.#note('request', pattern, data);
    if (!this.#server) return throwError(() => new NoHandlerError(String(pattern)));
    const value: unknown = data instanceof RedisStreamsRecord ? data.data : data;
    return from(this.#server.request<TResult>(pattern, value)).pipe(
      switchMap((values) => (values.length > 0 ? from(values) : EMPTY)),
    );
  }

  #note(kind: SentMessage['kind'], pattern: unknown, data: unknown): void {
    const record = data instanceof RedisStreamsRecord ? data : undefined;
    this.sent.push({
      kind,
      pattern,
      data: record ? record.data : data,
      headers: record?.headers ?? {},
      key: record?.key,
      deduplicationId: record?.deduplication?.id,
      delay: record?.delay,
      deliverAt: record?.deliverAt,
    });
  }

  #receipt(pattern: unknown, { delay, deliverAt }: RecordDelivery): Receipt {
    const now = Date.now();
    const due = deliverAt ?? (delay === undefined ? undefined : new Date(now + delay));
    const id = due ? `test-${this.sent.length}@${due.getTime()}` : `${now}-${this.sent.length}`;
    return new Receipt(this.normalizePattern(pattern as string), 0, id, due);
  }
}
