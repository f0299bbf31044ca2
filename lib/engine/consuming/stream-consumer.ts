import { EventEmitter } from 'node:events';

import { onceAborted } from '../../shared/abort-listeners.js';
import { withResolvers } from '../../shared/deferred.js';
import type { Deferred } from '../../shared/deferred.js';
import { errorText } from '../../shared/error-text.js';
import { ConsumerEndedError, InvalidOptionError, UnsupportedOperationError } from '../../errors.js';
import type { RedisStreamsError } from '../../errors.js';
import { isEntryId } from '../../redis/commands/entry-id.js';
import { partitionOf } from './partition.js';
import type { Partition } from './partition.js';
import { ConsumerSession } from './consumer-session.js';
import type { AcknowledgingConsumer, ConsumerEvents, RewindTarget } from './consumer-types.js';
import { check } from '../../shared/option-checks.js';
import { resolveStreamKeys } from '../options/resolve-options.js';
import type { ResolvedConsumerOptions } from '../options/resolve-options.js';
import type { ConsumerEnvironment } from './consumer-environment.js';
import { moveTo, resolveRewindTarget } from './seek.js';
import type { SeekTarget } from './seek.js';
import type { ShardAssignment } from './ownership/shard-assignment.js';
import { LayoutGate } from './ownership/layout-gate.js';
import { ShardOwnership } from './ownership/shard-ownership.js';
import { AdaptivePrefetch } from './reading/adaptive-prefetch.js';
import { DemandPace } from './reading/pace.js';
import { StreamAssignment } from './stream-assignment.js';
import { lookForUnreadShards } from './unread-shards.js';
import type { GuardedTelemetry } from '../telemetry/guarded-telemetry.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { StreamShard } from '../messages/stream-message.js';

type AssignedListener = (assignment: ShardAssignment) => void;

/**
 * A consumer whose messages the application takes one by one, with {@link next}. It owns the calls of `next()` that wait for a
 * message, and the failures of partitions that no call has reported yet; its {@link ConsumerSession} does the rest.
 *
 * It has every method that a consumer may have. Which of them are valid follows from the options: at compile time by
 * {@link ConsumerFor}, at run time by errors.
 */
export class StreamConsumer extends EventEmitter<ConsumerEvents> implements AcknowledgingConsumer {
  readonly #options: ResolvedConsumerOptions;
  readonly #environment: ConsumerEnvironment;
  readonly #session: ConsumerSession;
  readonly #ownership: ShardOwnership | undefined;
  readonly #gate: LayoutGate | undefined;
  readonly #assignment: StreamAssignment;
  readonly #pace: DemandPace | undefined;
  readonly #waiting: Array<Deferred<StreamMessage>> = [];
  readonly #failures: RedisStreamsError[] = [];
  readonly #onEnded: () => void;
  #ending: Promise<void> | undefined;

  constructor(environment: ConsumerEnvironment, options: ResolvedConsumerOptions, onEnded: () => void) {
    super();
    this.#onEnded = onEnded;
    this.#options = options;
    this.#environment = environment;
    this.#pace = options.isPrefetchAdaptive ? new DemandPace() : undefined;
    const adaptivePrefetch = this.#pace && new AdaptivePrefetch(options, this.#pace);
    const capacity = { inHandlers: 0, holdsUntilReleased: false, adaptivePrefetch };
    this.#session = new ConsumerSession(environment, options, capacity, {
      onStreamFailure: (error) => this.#failStream(error),
      onError: (error) => this.#report(error),
    });
    if (options.shardOwnership === 'owned') this.#ownership = this.#shareShards();
    if (this.#ownership) this.#gate = new LayoutGate(this.#ownership, (error) => this.#report(error));
    this.#assignment = new StreamAssignment(this.#gate ?? this.#session, (error) => this.#report(error));
    // A message that is taken one by one never waits for a retry here, so none is taken away.
    this.#session.handOutTo({ onArrival: () => this.#serve(), onTakenAway: () => undefined });
  }

  #shareShards(): ShardOwnership {
    const ownership = new ShardOwnership(this.#session, {
      onAssigned: (assignment) => this.#emit('assigned', assignment),
      onRevoked: (assignment) => this.#emit('revoked', assignment),
      onError: (error) => this.#report(error),
    });
    // The first shards are assigned before the application has the consumer.
    (this as EventEmitter).on('newListener', (event, listener: AssignedListener) => {
      if (event !== 'assigned') return;
      const assignments = ownership.assignments;
      queueMicrotask(() => this.#repeatAssigned(assignments, listener));
    });
    return ownership;
  }

  /** For a listener that was added after these shards were assigned; it gets later ones as events. */
  #repeatAssigned(assignments: readonly ShardAssignment[], listener: AssignedListener): void {
    for (const assignment of assignments) {
      // It may have been removed: by the application, or because it was added with once() and has been called.
      const added = this.rawListeners('assigned').find((each) => listenerOf(each) === listener);
      if (!added) return;
      if (this.#ownership?.isOwned(assignment)) this.#call('assigned', () => added.call(this, assignment));
    }
  }

  get groupId(): string | undefined {
    return this.#options.group;
  }

  get consumerId(): string | undefined {
    return this.#options.group === undefined ? undefined : this.#options.consumer;
  }

  get streamShards(): readonly StreamShard[] {
    return this.#session.partitions.current.map(({ streamKey, shardId }) => ({ streamKey, shardId }));
  }

  /** Resolves when every start position is fixed on the server. @param deadline on the monotonic clock */
  async open(streamKeys: readonly string[], deadline: number): Promise<void> {
    await this.#assignment.open(streamKeys, deadline);
    void lookForUnreadShards(streamKeys, this.#session, (error) => this.#report(error));
  }

  next(options: { signal?: AbortSignal } = {}): Promise<StreamMessage> {
    const { telemetry } = this.#environment;
    return telemetry?.followsReceives ? this.#followedNext(telemetry, options) : this.#next(options);
  }

  async #followedNext(telemetry: GuardedTelemetry, options: { signal?: AbortSignal }): Promise<StreamMessage> {
    const streamKeys = [...new Set(this.#session.partitions.current.map(({ streamKey }) => streamKey))];
    const { groupId: group, consumerId: consumer } = this;
    const operation = telemetry.startReceive({ streamKeys, group, consumer, source: telemetry.source });
    try {
      const message = await this.#next(options);
      operation?.end({ message });
      return message;
    } catch (error) {
      operation?.end({ error });
      throw error;
    }
  }

  #next({ signal }: { signal?: AbortSignal }): Promise<StreamMessage> {
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    if (this.#ending) return Promise.reject(new ConsumerEndedError());
    const message = this.#takeNow();
    if (message) return Promise.resolve(message);
    const failure = this.#nextFailure();
    if (failure) return Promise.reject(failure);
    const waiter = withResolvers<StreamMessage>();
    this.#waiting.push(waiter);
    this.#pace?.waits(this.#waiting.length);
    return signal ? this.#untilAborted(waiter, signal) : waiter.promise;
  }

  /** A message that no other call waits for, if one is buffered. */
  #takeNow(): StreamMessage | undefined {
    const message = this.#waiting.length === 0 ? this.#session.handOut() : undefined;
    if (message) this.#pace?.handedOut(0);
    return message;
  }

  /** An async generator would do the same, and leave 400 bytes more to the garbage collector for each message. */
  [Symbol.asyncIterator](): AsyncIterableIterator<StreamMessage> {
    let isOver = false;
    const end = async (): Promise<IteratorReturnResult<undefined>> => {
      isOver = true;
      await this.end();
      return { value: undefined, done: true };
    };
    const onFailure = async (error: unknown): Promise<IteratorReturnResult<undefined>> => {
      const over = await end();
      if (error instanceof ConsumerEndedError) return over;
      throw error;
    };
    return {
      next: () => {
        if (isOver || this.#ending) return end();
        const message = this.#environment.telemetry?.followsReceives ? undefined : this.#takeNow();
        return message ? Promise.resolve(yielded(message)) : this.next().then(yielded, onFailure);
      },
      return: async (value) => ({ ...(await end()), value }),
      throw: async (error) => {
        await end();
        throw error;
      },
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  ack(message: StreamMessage): void {
    if (!(message instanceof StreamMessage))
      throw new InvalidOptionError('message', 'must be a StreamMessage', message);
    this.#requireAcks('ack()');
    const partition = partitionOf(message);
    if (partition.lease || this.#session.partitions.has(partition))
      this.#session.acknowledger.ack(partition, message.id);
    else this.ackWith(message.streamKey, message.shardId, message.id);
  }

  ackWith(streamKey: string, shardId: number, id: string): void {
    this.#requireAcks('ackWith()');
    if (typeof id !== 'string' || !isEntryId(id))
      throw new InvalidOptionError('id', "must be an entry id 'ms-seq'", id);
    this.#session.acknowledger.ack(this.#requirePartition(streamKey, shardId), id);
  }

  async commit(): Promise<void> {
    this.#requireAcks('commit()');
    await this.#session.commit();
  }

  async seek(timestamp: Date): Promise<void> {
    check.date('timestamp', timestamp);
    await this.#move({ after: timestamp });
  }

  async rewind(to: RewindTarget): Promise<void> {
    await this.#move(resolveRewindTarget(to));
  }

  /** An entry is expected. @internal */
  lookSoon(): void {
    this.#session.lookSoon();
  }

  get isPaused(): boolean {
    return this.#session.pausing.isPaused;
  }

  async pause(): Promise<void> {
    if (this.#ending) throw new ConsumerEndedError();
    await this.#session.pausing.set('all');
  }

  async resume(): Promise<void> {
    if (this.#ending) throw new ConsumerEndedError();
    await this.#session.pausing.set([]);
  }

  async assign(streamKey: string, shardId?: number): Promise<void> {
    this.#checkShard(streamKey, shardId);
    await this.#assignment.assign(streamKey, shardId);
  }

  async unassign(streamKey: string, shardId?: number): Promise<void> {
    this.#checkShard(streamKey, shardId);
    await this.#assignment.unassign(streamKey, shardId);
  }

  end(): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }

  async #end(): Promise<void> {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new ConsumerEndedError());
    await this.#assignment.close();
    await this.#gate?.close();
    await this.#ownership?.close();
    await this.#session.stopReading();
    await this.#session.leave();
    await this.#ownership?.release();
    this.#onEnded();
  }

  async #move(target: SeekTarget): Promise<void> {
    if (this.#ending) throw new ConsumerEndedError();
    if (this.#options.mode === 'load-balanced') {
      throw new UnsupportedOperationError(
        'seek() and rewind()',
        'would move the group of other consumers; use StreamManager.setGroupPosition(streamKey, group, to)',
      );
    }
    await moveTo(this.#session, target);
  }

  #serve(): void {
    while (this.#waiting.length > 0) {
      const message = this.#session.handOut();
      if (!message) return;
      this.#waiting.shift()?.resolve(message);
      this.#pace?.handedOut(this.#waiting.length);
    }
  }

  /** Each failure is reported once: to a call that waits, otherwise to the next one. Other calls wait for other partitions. */
  #failStream(error: RedisStreamsError): void {
    this.#environment.telemetry?.failed(error);
    this.#failures.push(error);
    while (this.#waiting.length > 0) {
      const failure = this.#nextFailure();
      if (!failure) return;
      this.#waiting.shift()?.reject(failure);
    }
  }

  #nextFailure(): RedisStreamsError | undefined {
    const isAnyLeft = (this.#ownership ?? this.#session).partitions.current.some(({ isReadable }) => isReadable);
    return isAnyLeft || this.#failures.length > 1 ? this.#failures.shift() : this.#failures[0];
  }

  async #untilAborted(waiter: Deferred<StreamMessage>, signal: AbortSignal): Promise<StreamMessage> {
    const stop = onceAborted(signal, () => {
      const index = this.#waiting.indexOf(waiter);
      if (index === -1) return;
      this.#waiting.splice(index, 1);
      this.#pace?.waits(this.#waiting.length);
      waiter.reject(signal.reason);
    });
    try {
      return await waiter.promise;
    } finally {
      stop();
    }
  }

  #requireAcks(method: string): void {
    const { autoCommit, group } = this.#options;
    if (group === undefined) {
      throw new UnsupportedOperationError(method, 'is not for real-time mode, where nothing is pending');
    }
    if (autoCommit !== 'rolling' && autoCommit !== 'disabled') {
      throw new UnsupportedOperationError(method, `is not for autoCommit '${autoCommit}'; use 'rolling' or 'disabled'`);
    }
    if (this.#ending) throw new ConsumerEndedError();
  }

  #requirePartition(streamKey: string, shardId: number): Partition {
    const partition = this.#session.partitions.find(streamKey, shardId);
    if (!partition)
      throw new InvalidOptionError(
        'streamKey, shardId',
        'must be assigned to this consumer',
        `${streamKey}, ${shardId}`,
      );
    return partition;
  }

  #checkShard(streamKey: string, shardId: number | undefined): void {
    if (this.#ending) throw new ConsumerEndedError();
    resolveStreamKeys(streamKey);
    if (shardId !== undefined) check.integer('shardId', shardId, 0);
  }

  #report(error: RedisStreamsError): void {
    this.#environment.telemetry?.failed(error);
    if (this.listenerCount('error') > 0) this.#call('error', () => this.emit('error', error));
    else this.#environment.logger.error(error.message);
  }

  #emit(event: 'assigned' | 'revoked', assignment: ShardAssignment): void {
    this.#call(event, () => this.emit(event, assignment));
  }

  #call(event: string, listener: () => void): void {
    try {
      listener();
    } catch (thrown) {
      this.#environment.logger.error(`A listener of '${event}' failed: ${errorText(thrown)}`);
    }
  }
}

/** What the application has added, which once() wraps. */
function listenerOf(added: AssignedListener & { readonly listener?: AssignedListener }): AssignedListener {
  return added.listener ?? added;
}

function yielded(value: StreamMessage): IteratorYieldResult<StreamMessage> {
  return { value, done: false };
}
