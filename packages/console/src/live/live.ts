import type { RedisStreamsStatus } from 'nestjs-redis-streams';
import type { Failure, GroupUpdate, StreamUpdate, StreamsUpdate, View } from '../api.js';
import type { ConsoleSource } from '../console-source.js';
import type { HealthParts } from '../health-parts.js';
import type { StreamPolicy } from '../stream-policy.js';
import { lookAtGroup } from './group-look.js';
import { LagHistory } from './lag-history.js';
import { Pace } from './pace.js';
import type { PaceOptions } from './pace.js';
import { Rates } from './rates.js';
import { countDeadLetters, shardRows, streamRow } from './rows.js';
import { StreamSweep } from './stream-sweep.js';
import type { Snapshot } from './stream-sweep.js';
import { streamsUpdate } from './streams-view.js';
import type { StreamsView } from './streams-view.js';
import { Topic } from './topic.js';
import type { Look, News } from './topic.js';
import { Topics } from './topics.js';

/** Views that are looked at, at the same time: with several instances of an application, each has as many. */
const MOST_TOPICS = 100;
/** Milliseconds that a view is kept without viewers. */
const KEEP = 60_000;

const STREAMS = keyOf({ page: 'streams' });
const HEALTH = keyOf({ page: 'health' });

export interface LiveParts {
  readonly source: ConsoleSource;
  readonly policy: StreamPolicy;
  readonly health: HealthParts;
  readonly pace: PaceOptions;
}

/**
 * What is looked at now: one topic for all viewers of the same, which is kept for a minute after the last of them. All streams are one
 * topic; each viewer gets the part that they asked for.
 */
export class Live {
  readonly #parts: LiveParts;
  readonly #topics = new Topics({ most: MOST_TOPICS, keep: KEEP }, () => this.#onEmpty());
  readonly #snapshotParts = new WeakMap<Snapshot, Map<string, StreamsUpdate>>();
  readonly #pace: Pace;
  readonly #history: LagHistory;

  constructor(parts: LiveParts) {
    this.#parts = parts;
    this.#pace = new Pace(parts.pace);
    this.#history = new LagHistory(parts.pace.interval / 2);
  }

  /** @throws ServiceUnavailableException when too much is looked at for one view more */
  requireRoom(view: View): void {
    this.#topics.requireRoom(keyOf(view));
  }

  /** @returns ends it @throws ServiceUnavailableException, see {@link requireRoom} */
  watch(view: View, viewer: (news: News<unknown>) => void): () => void {
    switch (view.page) {
      case 'streams': {
        const topic = this.#topic(STREAMS, () => this.#sweepLook());
        const partOf = (snapshot: Snapshot): StreamsUpdate => this.#partOf(snapshot, view, this.#pace.pauseOf(topic));
        return topic.watch((news) => viewer('value' in news ? { value: partOf(news.value) } : news));
      }
      case 'stream':
        return this.#topic(keyOf(view), () => this.#streamLook(view.stream)).watch(viewer);
      case 'group':
        return this.#topic(keyOf(view), () => this.#groupLook(view)).watch(viewer);
      case 'health':
        return this.#topic(HEALTH, () => () => this.#parts.health.look(this.#parts.policy)).watch(viewer);
    }
  }

  /** Keeps nothing any more that has no viewers. */
  close(): void {
    this.#topics.close();
  }

  /** Sorted and searched once for all viewers of the same part. */
  #partOf(snapshot: Snapshot, view: StreamsView, interval: number): StreamsUpdate {
    let parts = this.#snapshotParts.get(snapshot);
    if (!parts) this.#snapshotParts.set(snapshot, (parts = new Map()));
    const key = JSON.stringify(view);
    let part = parts.get(key);
    if (!part) parts.set(key, (part = streamsUpdate(snapshot, view, interval)));
    return part;
  }

  #topic<T>(key: string, lookOf: () => (look: Look<T>) => Promise<T>): Topic<T> {
    return this.#topics.take(key, () => {
      if (this.#topics.size === 0) this.#parts.source.streamer.on('status', this.#onStatus);
      return new Topic<T>({
        look: lookOf(),
        pace: this.#pace,
        silence: () => (key === HEALTH ? undefined : this.#silence()),
        onIdle: () => this.#topics.leave(key),
      });
    });
  }

  #onEmpty(): void {
    this.#history.clear();
    this.#parts.source.streamer.off('status', this.#onStatus);
  }

  readonly #onStatus = (status: RedisStreamsStatus): void => {
    for (const [key, topic] of this.#topics) {
      if (status === 'connected') topic.wake();
      else if (key !== HEALTH) topic.interrupt(this.#silence());
    }
  };

  #sweepLook(): (look: Look<Snapshot>) => Promise<Snapshot> {
    const { source, policy } = this.#parts;
    const sweep = new StreamSweep(source, policy, this.#history);
    return (look) => sweep.look(look);
  }

  #streamLook(stream: string): (look: Look<StreamUpdate>) => Promise<StreamUpdate> {
    const rates = new Rates();
    return async ({ progress }) => {
      const { streams } = this.#parts.source;
      const details = await streams.info(stream);
      progress();
      const at = Date.now();
      if (details.shards.length === 0) return { row: null, firstId: null, lastId: null, shards: [], at };
      const row = streamRow(details, await countDeadLetters(stream, streams), rates.next(details));
      for (const group of row.groups) this.#history.keep(stream, group, at);
      const { firstId = null, lastId = null } = details;
      return { row, firstId, lastId, shards: shardRows(details), at };
    };
  }

  #groupLook({ stream, group }: { stream: string; group: string }): (look: Look<GroupUpdate>) => Promise<GroupUpdate> {
    return (look) => lookAtGroup(stream, group, this.#parts.source, this.#history, look);
  }

  #silence(): Failure {
    const { status } = this.#parts.source.streamer;
    const message =
      status === 'connected'
        ? 'Redis does not answer; the figures follow when it does'
        : 'The connection to Redis is lost; the figures follow when it is back';
    return { message, code: 'ERR_CONNECTION' };
  }
}

/** The same for all views that one topic has figures for. */
function keyOf(view: View): string {
  return JSON.stringify([view.page, 'stream' in view && view.stream, 'group' in view && view.group]);
}
