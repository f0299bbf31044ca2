import { monotonicNow } from '../clock.js';
import { errorText } from '../error-text.js';
import type { RedisStreamsError } from '../errors.js';
import { toPublicError } from '../redis/redis-error.js';
import { AssignedStream } from './assigned-stream.js';
import { CommitScheduler } from './commit-scheduler.js';
import { attempt, attemptForEach } from './courtesy.js';
import { DelayedAcks } from './delayed-acks.js';
import { handBack } from './hand-back.js';
import { KeepAlive } from './keep-alive.js';
import { MessageBuffer } from './message-buffer.js';
import type { ResolvedConsumerOptions } from './options.js';
import type { ConsumerEnvironment } from './reading-line.js';
import { ReadingLines } from './reading-lines.js';
import { StreamMessage } from './stream-message.js';
import type { ReadPage } from './stream-reader.js';

export interface SessionListeners {
  /** A stream is not read any more; the others go on. */
  readonly onStreamFailure: (error: RedisStreamsError) => void;
  /** Something failed in the background and is being retried, or cannot be. */
  readonly onError: (error: RedisStreamsError) => void;
}

/** How many messages may be in this process; see {@link MessageBuffer}. */
export interface SessionCapacity {
  readonly messages: number;
  readonly holdsUntilReleased: boolean;
}

/** An ack that cannot be sent is a message delivered twice, not one lost: the end waits so long for the server. */
const LAST_COMMIT_TIME = 5_000;

/**
 * One consumer's presence on its streams: it reads into the buffer, knows which entries are in this process, keeps them
 * alive, commits their acks and leaves in good order. Who takes the messages, a {@link StreamConsumer} or a
 * {@link Dispatcher}, stands in front of it.
 */
export class ConsumerSession {
  readonly options: ResolvedConsumerOptions;
  readonly buffer: MessageBuffer<StreamMessage>;
  readonly environment: ConsumerEnvironment;
  readonly #listeners: SessionListeners;
  readonly #commits: CommitScheduler | undefined;
  readonly #delayedAcks: DelayedAcks | undefined;
  readonly #keepAlive: KeepAlive | undefined;
  readonly #lines: ReadingLines;
  #streams: readonly AssignedStream[] = [];
  /** Streams that were let go while entries of theirs were still in this process, by key. */
  readonly #formerStreams = new Map<string, AssignedStream>();
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
    this.buffer = new MessageBuffer(capacity.messages, options.batchSize, capacity.holdsUntilReleased);
    this.#lines = new ReadingLines({
      environment,
      consumer: options,
      credit: () => this.buffer.credit,
      room: () => this.buffer.room(),
      isStuck: () => this.buffer.isStuck,
      onPages: (pages) => this.#accept(pages),
      onStreamFailure: (stream) => this.#listeners.onStreamFailure(stream.failure as RedisStreamsError),
      onError: listeners.onError,
      onTakenAway: (message) => this.#onTakenAway(message),
    });
    const { group, autoCommit } = options;
    if (group === undefined || autoCommit === 'immediate') return;
    this.#commits = this.#createCommits(group);
    if (autoCommit === 'delayed') {
      this.#delayedAcks = new DelayedAcks(options.autoCommitDelay, (stream, id) => this.ack(stream, id));
    }
    if (options.mode === 'load-balanced') this.#keepAlive = this.#createKeepAlive(group);
  }

  get streams(): readonly AssignedStream[] {
    return this.#streams;
  }

  /** Fixes the start of every stream, then starts to read. @throws RedisStreamsError when that is impossible. */
  async open(streams: readonly AssignedStream[]): Promise<void> {
    await this.add(streams, false);
    this.#lines.requireRunning();
    this.#keepAlive?.start();
  }

  /** Takes more streams on. @param isAllNew they appeared while we were reading */
  async add(streams: readonly AssignedStream[], isAllNew: boolean): Promise<void> {
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
  async remove(streams: readonly AssignedStream[]): Promise<void> {
    this.#streams = this.#streams.filter((stream) => !streams.includes(stream));
    await this.#lines.assign(this.#streams);
    await this.#handBackBuffered(streams);
    for (const stream of streams) if (stream.held.size > 0) this.#formerStreams.set(stream.key, stream);
  }

  /** Whether messages of this stream, which may have been let go meanwhile, are ours to acknowledge. */
  knows(stream: AssignedStream): boolean {
    return this.#streams.includes(stream) || this.#formerStreams.get(stream.key) === stream;
  }

  find(streamKey: string, shardId: number): AssignedStream | undefined {
    return this.#streams.find((stream) => stream.streamKey === streamKey && stream.shardId === shardId);
  }

  /** The next message, if one is buffered; from now on its taker has it. */
  handOut(): StreamMessage | undefined {
    const message = this.buffer.take();
    if (!message) return undefined;
    const stream = this.streamOf(message);
    stream.handedOut = message.id;
    if (this.#commits) stream.held.set(message.id, 'running');
    if (!this.#isSettledByTaker) this.#delayedAcks?.add(stream, message.id);
    return message;
  }

  /** The assignment that a message of ours came by. */
  streamOf(message: StreamMessage): AssignedStream {
    return StreamMessage.shardOf(message) as AssignedStream;
  }

  /** Told of messages that waited for a retry here and are now in other hands, or gone. */
  onTakenAway(listener: (message: StreamMessage) => void): void {
    this.#onTakenAway = listener;
  }

  /** A handler has processed the message: it is acknowledged, with `delayed` some time later. */
  acknowledge(message: StreamMessage): void {
    const stream = this.streamOf(message);
    if (this.#delayedAcks) this.#delayedAcks.add(stream, message.id);
    else this.ack(stream, message.id);
  }

  /** The same without delay, whatever the commit policy: its dead letter is stored, and may be put back at any time. */
  async acknowledgeNow(message: StreamMessage): Promise<void> {
    const stream = this.streamOf(message);
    try {
      await this.environment.control.pending.ack(stream.key, this.options.group as string, [message.id]);
      this.leavePending(message);
    } catch {
      this.ack(stream, message.id);
    }
  }

  /** Queues an acknowledgement. */
  ack(stream: AssignedStream, id: string): void {
    if (!this.#commits) return;
    stream.failedFirst.delete(id);
    stream.held.set(id, 'settled');
    this.#commits.add(stream, id);
  }

  /** Leaves a message pending: whoever claims idle entries, maybe we, will get it again. */
  leavePending(message: StreamMessage): void {
    const stream = this.streamOf(message);
    stream.held.delete(message.id);
    stream.failedFirst.delete(message.id);
  }

  /** When handling this message first failed in this process: now, unless it did before. */
  failedFirst(message: StreamMessage): Date {
    return new Date(this.streamOf(message).failedFirst.get(message.id) ?? Date.now());
  }

  /** Sees to it that a message is handed out again after the delay, here or, if this process dies, elsewhere. */
  async retryLater(message: StreamMessage, delay: number): Promise<void> {
    const { group, consumer, autoClaimIdle, mode } = this.options;
    const stream = this.streamOf(message);
    const retries = this.#lines.retriesOf(stream);
    if (group === undefined || !retries) return this.leavePending(message);
    stream.failedFirst.set(message.id, this.failedFirst(message).getTime());
    const dueAt = monotonicNow() + delay;
    try {
      // Before the retry can start: an entry that others may claim must not be in a handler here.
      const idle = Math.max(0, autoClaimIdle - delay);
      const { pending } = this.environment.control;
      if (mode === 'load-balanced') await pending.setIdle(stream.key, group, consumer, [{ id: message.id }], idle);
    } finally {
      const isFirst = retries.add(stream, message, Math.max(0, dueAt - monotonicNow()), delay > autoClaimIdle);
      if (isFirst) await this.#lines.restart();
    }
  }

  /** Resolves when every ack queued before is settled. */
  async commit(signal?: AbortSignal): Promise<void> {
    await this.#commits?.flush(signal);
  }

  /** Removes what is buffered of a stream and lets nothing that was read before come any more. */
  invalidate(stream: AssignedStream): void {
    stream.generation += 1;
    for (const { id } of this.buffer.remove((message) => StreamMessage.shardOf(message) === stream)) {
      if (this.#commits) stream.held.set(id, 'skipped');
    }
  }

  /** Runs a change of where reading stands while nothing is being read. */
  async betweenReads(change: () => Promise<void>): Promise<void> {
    await this.#lines.betweenReads(change);
  }

  /** Stops reading and gives back what nobody was handed. */
  async stopReading(): Promise<void> {
    await this.#lines.stop();
    await this.#handBackBuffered(this.#streams);
  }

  /** Gives messages back that were taken but not used. */
  async giveBack(messages: readonly StreamMessage[]): Promise<void> {
    const { control, logger } = this.environment;
    const ofStream = (stream: AssignedStream) => messages.filter((message) => this.streamOf(message) === stream);
    const streams = [...new Set(messages.map((message) => this.streamOf(message)))];
    await attemptForEach(streams, (stream) => handBack(stream, ofStream(stream), this.options, control), logger);
  }

  /** Commits what was acknowledged, removes our name where nothing is pending, closes the connections. */
  async leave(): Promise<void> {
    this.#delayedAcks?.flush();
    const { control, logger } = this.environment;
    await attempt(() => this.commit(AbortSignal.timeout(LAST_COMMIT_TIME)), logger);
    this.#keepAlive?.stop();
    this.#commits?.close();
    const removeName = async ({ key, isReadable }: AssignedStream): Promise<void> => {
      const { group, consumer } = this.options;
      if (group !== undefined && isReadable) await control.groups.removeConsumer(key, group, consumer);
    };
    await attemptForEach(this.#streams, removeName, logger);
    await this.#lines.release();
  }

  #accept(pages: readonly ReadPage[]): void {
    const messages: StreamMessage[] = [];
    for (const { stream, generation, entries } of pages) {
      const isCurrent = stream.generation === generation;
      for (const entry of entries) {
        if (this.#commits) stream.held.set(entry.id, isCurrent ? 'buffered' : 'skipped');
        if (isCurrent) messages.push(new StreamMessage(stream, entry, this.environment.messageField));
      }
    }
    this.buffer.push(messages);
  }

  #createCommits(group: string): CommitScheduler {
    const { autoCommit, autoCommitInterval } = this.options;
    return new CommitScheduler({
      pending: this.environment.control.pending,
      group,
      interval: autoCommit === 'disabled' ? undefined : autoCommitInterval,
      onError: this.#listeners.onError,
      onMissed: (streamKey, count) => {
        this.environment.logger.debug(`${count} acknowledgements on '${streamKey}' named entries that are not pending`);
      },
    });
  }

  #createKeepAlive(group: string): KeepAlive {
    return new KeepAlive({
      pending: this.environment.control.pending,
      group,
      consumer: this.options.consumer,
      claimIdle: this.options.autoClaimIdle,
      streams: () => [...this.#streams, ...this.#formerStreams.values()],
      waiting: (stream) => this.#lines.retriesOf(stream)?.tooEarlyFor(stream, this.options.autoClaimIdle) ?? [],
      onLost: (stream, ids) => {
        this.buffer.remove((message) => StreamMessage.shardOf(message) === stream && ids.has(message.id));
        for (const id of ids) if (stream.held.get(id) === 'buffered') stream.held.delete(id);
      },
      onError: (error) => this.environment.logger.debug(`Keeping entries alive failed: ${errorText(error)}`),
    });
  }

  async #handBackBuffered(streams: readonly AssignedStream[]): Promise<void> {
    await this.giveBack(this.buffer.remove((message) => streams.includes(this.streamOf(message))));
  }
}
