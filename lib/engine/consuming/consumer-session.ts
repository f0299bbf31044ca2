import { errorText } from '../../shared/error-text.js';
import type { RedisStreamsError } from '../../errors.js';
import { toPublicError } from '../../redis/commands/redis-error.js';
import { partitionOf } from './partition.js';
import type { Partition, HeldState } from './partition.js';
import { attempt, attemptForEach } from './recovery/courtesy.js';
import { handBack } from './recovery/release.js';
import type { LocalLoopHealth } from '../health.js';
import { Housekeeping } from '../admin/housekeeping.js';
import { LeaseRenewal } from './recovery/lease-renewal.js';
import { MessageBuffer } from './message-buffer.js';
import { Acknowledger } from '../settling/acknowledger.js';
import type { ResolvedConsumerOptions } from '../options/options.js';
import type { ConsumerEnvironment, LiveSession } from './reading/reading-line.js';
import type { AdaptivePrefetch } from './reading/adaptive-prefetch.js';
import { ReadLoops } from './reading/read-loops.js';
import { StreamMessage } from '../messages/stream-message.js';
import type { ReadPage } from './reading/stream-reader.js';

export interface SessionListeners {
  /** A stream is not read any more; the others go on. */
  readonly onStreamFailure: (error: RedisStreamsError) => void;
  /** Something failed in the background and is being retried, or cannot be. */
  readonly onError: (error: RedisStreamsError) => void;
}

/** How many messages may be in this process; see {@link MessageBuffer}. */
export interface SessionCapacity {
  /** Beside those that are read ahead. */
  readonly inHandlers: number;
  readonly holdsUntilReleased: boolean;
  /** Decides how much is read ahead; without it that is what the options say. */
  readonly readAhead?: AdaptivePrefetch | undefined;
}

/** An ack that cannot be sent is a message delivered twice, not one lost: the end waits so long for the server. */
const LAST_COMMIT_TIME = 5_000;

/**
 * One consumer's presence on its streams: it reads into the buffer, knows which entries are in this process, keeps them
 * alive, commits their acks and leaves in good order. Who takes the messages, a {@link StreamConsumer} or a
 * {@link Dispatcher}, stands in front of it.
 */
export class ConsumerSession implements LiveSession {
  readonly options: ResolvedConsumerOptions;
  readonly buffer: MessageBuffer<StreamMessage>;
  readonly environment: ConsumerEnvironment;
  readonly settler: Acknowledger;
  readonly readAhead: AdaptivePrefetch | undefined;
  readonly #listeners: SessionListeners;
  readonly #keepAlive: LeaseRenewal | undefined;
  readonly #housekeeping: Housekeeping | undefined;
  readonly #lines: ReadLoops;
  readonly #inHandlers: number;
  #streams: readonly Partition[] = [];
  /** Streams that were let go while entries of theirs were still in this process, by key. */
  readonly #formerStreams = new Map<string, Partition>();
  /** A dispatcher says when a message is processed; who asks for messages one by one, with `delayed`, does not. */
  readonly #isSettledByTaker: boolean;
  #onTakenAway: (message: StreamMessage) => void = () => undefined;

  constructor(
    environment: ConsumerEnvironment,
    options: ResolvedConsumerOptions,
    capacity: SessionCapacity,
    listeners: SessionListeners,
  ) {
    this.environment = environment;
    this.options = options;
    this.#listeners = listeners;
    this.#isSettledByTaker = capacity.holdsUntilReleased;
    this.#inHandlers = capacity.inHandlers;
    this.readAhead = capacity.readAhead;
    const { prefetch, batchSize } = options;
    this.buffer = new MessageBuffer(prefetch + this.#inHandlers, batchSize, capacity.holdsUntilReleased);
    this.#lines = new ReadLoops({
      environment,
      consumer: options,
      credit: () => this.buffer.credit,
      batchSize: () => (this.readAhead?.size ?? options).batchSize,
      room: () => this.buffer.room(),
      hasRoom: () => this.buffer.hasRoom,
      isStuck: () => this.buffer.isStuck,
      onPages: (pages, isLate) => this.#accept(pages, isLate),
      onStreamFailure: (stream) => this.#listeners.onStreamFailure(stream.failure as RedisStreamsError),
      onError: listeners.onError,
      onTakenAway: (message) => this.#onTakenAway(message),
    });
    this.settler = new Acknowledger({
      consumer: options,
      pending: environment.control.pending,
      logger: environment.logger,
      retriesOf: (stream) => this.#lines.retriesOf(stream),
      onEarlierRetry: () => this.#lines.restart(),
      onError: listeners.onError,
    });
    environment.sessions.add(this);
    const { group, mode } = options;
    if (group === undefined) return;
    this.#housekeeping = this.#createHousekeeping(group);
    if (mode === 'load-balanced' && this.settler.hasPending) {
      this.#keepAlive = this.#createKeepAlive(group);
    }
  }

  get streams(): readonly Partition[] {
    return this.#streams;
  }

  /** Fixes the start of every stream, then starts to read. @throws RedisStreamsError when that is impossible. */
  async open(streams: readonly Partition[]): Promise<void> {
    await this.add(streams, false);
    this.#lines.requireRunning();
    this.#keepAlive?.start();
    this.#housekeeping?.start();
  }

  /** Takes more streams on. @param isAllNew they appeared while we were reading */
  async add(streams: readonly Partition[], isAllNew: boolean): Promise<void> {
    for (const stream of streams) {
      // What is still being worked on must not be taken for entries of an earlier process.
      stream.held = this.#formerStreams.get(stream.key)?.held ?? stream.held;
      this.#formerStreams.delete(stream.key);
      try {
        await this.#lines.open(stream, isAllNew);
      } catch (error) {
        throw toPublicError(error, stream.key, 'opening');
      }
      stream.handedOut = stream.position;
    }
    this.#streams = [...this.#streams, ...streams];
    await this.#lines.assign(this.#streams);
    for (const stream of streams) if (stream.failure) this.#listeners.onStreamFailure(stream.failure);
  }

  /** Lets streams go; what was buffered of them goes back to the group. */
  async remove(streams: readonly Partition[]): Promise<void> {
    this.#streams = this.#streams.filter((stream) => !streams.includes(stream));
    await this.#lines.assign(this.#streams);
    await this.#handBackBuffered(streams);
    for (const stream of streams) if (stream.held.size > 0) this.#formerStreams.set(stream.key, stream);
  }

  /** Whether messages of this stream, which may have been let go meanwhile, are ours to acknowledge. */
  knows(stream: Partition): boolean {
    return this.#streams.includes(stream) || this.#formerStreams.get(stream.key) === stream;
  }

  find(streamKey: string, shardId: number): Partition | undefined {
    return this.#streams.find((stream) => stream.streamKey === streamKey && stream.shardId === shardId);
  }

  /** The next message, if one is buffered; from now on its taker has it. */
  handOut(): StreamMessage | undefined {
    const message = this.buffer.take();
    if (!message) return undefined;
    const stream = partitionOf(message);
    stream.handedOut = message.id;
    if (this.settler.hasPending) stream.held.set(message.id, 'running');
    if (!this.#isSettledByTaker) this.settler.acknowledgeLater(message);
    return message;
  }

  /** Told of messages that waited for a retry here and are now in other hands, or gone. */
  onTakenAway(listener: (message: StreamMessage) => void): void {
    this.#onTakenAway = listener;
  }

  /** Removes what is buffered of a stream and lets nothing that was read before come any more. */
  invalidate(stream: Partition): void {
    stream.generation += 1;
    for (const { id } of this.buffer.remove((message) => partitionOf(message) === stream)) {
      if (this.settler.hasPending) stream.held.set(id, 'skipped');
    }
  }

  /** Runs a change of where reading stands while nothing is being read. */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    await this.#lines.betweenReads(change);
  }

  /** Stops reading and gives back what nobody was handed. */
  async stopReading(): Promise<void> {
    await Promise.all([this.#lines.stop(), this.#housekeeping?.stop()]);
    await this.#handBackBuffered(this.#streams);
  }

  /** Gives messages back that were taken but not used. */
  async giveBack(messages: readonly StreamMessage[]): Promise<void> {
    const { control, logger } = this.environment;
    const ofStream = (stream: Partition) => messages.filter((message) => partitionOf(message) === stream);
    const streams = [...new Set(messages.map((message) => partitionOf(message)))];
    await attemptForEach(streams, (stream) => handBack(stream, ofStream(stream), this.options, control), logger);
  }

  /** Commits what was acknowledged, removes our name where nothing is pending, closes the connections. */
  async leave(): Promise<void> {
    this.settler.flushDelayed();
    const { control, logger } = this.environment;
    await attempt(() => this.settler.commit(AbortSignal.timeout(LAST_COMMIT_TIME)), logger);
    this.#keepAlive?.stop();
    this.settler.close();
    const removeName = async ({ key, isReadable }: Partition): Promise<void> => {
      const { group, consumer } = this.options;
      if (group !== undefined && isReadable) await control.groups.removeConsumer(key, group, consumer);
    };
    await attemptForEach(this.#streams, removeName, logger);
    await this.#lines.release();
    this.environment.sessions.delete(this);
  }

  /** How each of the read loops is doing. */
  health(): LocalLoopHealth[] {
    const { mode, group, consumer } = this.options;
    const heldAs = (streams: readonly Partition[], wanted: HeldState): number =>
      streams.reduce((sum, { held }) => sum + [...held.values()].filter((state) => state === wanted).length, 0);
    return this.#lines.reports().map((report) => ({
      ...report,
      mode,
      group,
      consumer: group === undefined ? undefined : consumer,
      buffered: this.buffer.count((message) => report.streams.includes(partitionOf(message))),
      inFlight: this.settler.hasPending ? heldAs(report.streams, 'running') : this.buffer.held,
    }));
  }

  /** Of what comes late, a later round may have brought some already. */
  #accept(pages: readonly ReadPage[], isLate: boolean): void {
    const messages: StreamMessage[] = [];
    for (const { stream, generation, entries } of pages) {
      this.readAhead?.arrived(entries);
      const isCurrent = stream.generation === generation;
      for (const entry of entries) {
        if (isLate && stream.held.has(entry.id)) continue;
        if (this.settler.hasPending) stream.held.set(entry.id, isCurrent ? 'buffered' : 'skipped');
        if (isCurrent) messages.push(new StreamMessage(stream, entry, this.environment.messageField));
      }
    }
    if (this.readAhead) {
      const { prefetch, batchSize } = this.readAhead.size;
      this.buffer.resize(prefetch + this.#inHandlers, batchSize);
    }
    this.buffer.push(messages);
  }

  #createHousekeeping(group: string): Housekeeping {
    const { consumer, consumerExpiry, retention } = this.options;
    const { control, logger } = this.environment;
    return new Housekeeping({
      groups: control.groups,
      group,
      consumer,
      consumerExpiry,
      retention,
      streams: () => this.#streams,
      logger,
      onError: this.#listeners.onError,
    });
  }

  #createKeepAlive(group: string): LeaseRenewal {
    return new LeaseRenewal({
      pending: this.environment.control.pending,
      group,
      consumer: this.options.consumer,
      claimIdle: this.options.autoClaimIdle,
      streams: () => [...this.#streams, ...this.#formerStreams.values()],
      waiting: (stream) => this.#lines.retriesOf(stream)?.tooEarlyFor(stream, this.options.autoClaimIdle) ?? [],
      onLost: (stream, ids) => {
        this.buffer.remove((message) => partitionOf(message) === stream && ids.has(message.id));
        for (const id of ids) if (stream.held.get(id) === 'buffered') stream.held.delete(id);
      },
      onError: (error) => this.environment.logger.debug(`Keeping entries alive failed: ${errorText(error)}`),
    });
  }

  async #handBackBuffered(streams: readonly Partition[]): Promise<void> {
    await this.giveBack(this.buffer.remove((message) => streams.includes(partitionOf(message))));
  }
}
