import { InvalidOptionError } from '../errors.js';
import { RedisStreamsRecord } from '../nest/redis-streams.record.js';
import { isEntryId } from '../redis/commands/entry-id.js';
import { check, optionNames } from '../shared/option-checks.js';
import type { TestDelivery } from './test-reader.js';

/** A delivered message, without its data. */
export interface TestMessage {
  /** Headers of the message. @defaultValue none */
  headers?: Record<string, string>;
  /**
   * Id of the entry, `ms-seq`.
   * @defaultValue `<now>-<counter>`
   */
  id?: string;
  /**
   * Number of deliveries, this one included.
   * @defaultValue `1`
   */
  deliveryCount?: number;
  /**
   * Aborts the signal of the handler, as if the server closed.
   * @defaultValue none
   */
  signal?: AbortSignal;
}

/** A delivery by the test itself. */
export interface SignalledDelivery extends TestDelivery {
  readonly signal?: AbortSignal | undefined;
}

const TEST_MESSAGE = optionNames<TestMessage & { data: unknown }>({
  headers: true,
  id: true,
  deliveryCount: true,
  signal: true,
  data: true,
});

/** @throws InvalidOptionError */
export function checkTestMessage(message: TestMessage & { data: unknown }): void {
  check.options('', message, TEST_MESSAGE);
  const { data, headers, id, deliveryCount, signal } = message;
  if (headers !== undefined) check.object('headers', headers);
  if (id !== undefined && !isEntryId(id)) throw new InvalidOptionError('id', 'must be that of an entry, ms-seq', id);
  if (deliveryCount !== undefined) check.integer('deliveryCount', deliveryCount, 1);
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new InvalidOptionError('signal', 'must be an AbortSignal', signal);
  }
  refuseDelay(data);
}

/** @throws InvalidOptionError */
function refuseDelay(data: unknown): void {
  if (!(data instanceof RedisStreamsRecord)) return;
  const { delay, deliverAt } = data;
  if (delay === undefined && !deliverAt) return;
  const rule =
    'is for what a client sends: deliver() is at once. Emit it with a TestClientRedisStreams, and advance the time';
  throw new InvalidOptionError(deliverAt ? 'deliverAt' : 'delay', rule, deliverAt ?? delay);
}
