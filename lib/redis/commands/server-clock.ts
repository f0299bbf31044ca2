import { monotonicNow } from '../../shared/clock.js';
import type { CommandChannel } from '../wire/command-channel.js';
import { ReplyError } from '../wire/resp-reader.js';
import type { CommandSender } from './command-sender.js';
import type { ServerFeatures } from './server-features.js';
import type { ClockCommands } from './stream-commands.js';

/** Age from which a reading is renewed in the background while it is used, and age from which it is no longer used. */
const RENEW_AFTER = 1_000;
const VALID_FOR = 10_000;

interface Reading {
  /** Time of the server minus monotonic time; undefined when the server has not told it. */
  readonly offset: number | undefined;
  /** On the monotonic clock. */
  readonly at: number;
}

/**
 * Tells the time of the servers, which gives the ids of entries their times. Clocks of machines differ, and jump when they are
 * set, so the clock of this machine has no part in it.
 *
 * It keeps one reading of TIME for each connection, because every node of a cluster has a clock of its own, and adds the
 * monotonic time since then. The result is at most the time of the server, or earlier by the duration of the round trip,
 * unless that clock was set back since the reading. Readings are renewed only while they are used; it has no timer.
 */
export class ServerClock {
  readonly #features: ServerFeatures;
  readonly #readings = new WeakMap<CommandChannel, Reading>();
  readonly #asking = new WeakMap<CommandChannel, Promise<void>>();

  constructor(features: ServerFeatures) {
    this.#features = features;
  }

  /** Whether {@link now} has the answer of the server, which may be that it does not tell its time. */
  isCurrent(channel: CommandChannel): boolean {
    if (!this.#features.has('TIME')) return true;
    const age = monotonicNow() - (this.#readings.get(channel)?.at ?? -Infinity);
    if (age >= RENEW_AFTER && age < VALID_FOR) this.ask(channel).catch(() => undefined);
    return age < VALID_FOR;
  }

  /** Milliseconds since the epoch, by the last reading; undefined when there is none, or the server does not tell its time. */
  now(channel: CommandChannel): number | undefined {
    const offset = this.offset(channel);
    return offset === undefined ? undefined : monotonicNow() + offset;
  }

  /** What {@link now} adds to the monotonic time. */
  offset(channel: CommandChannel): number | undefined {
    return this.#readings.get(channel)?.offset;
  }

  /** Reads the time. Rejects when the connection ends; a refusal of the server is no failure. */
  ask(channel: CommandChannel): Promise<void> {
    const asking = this.#asking.get(channel) ?? this.#read(channel).finally(() => this.#asking.delete(channel));
    this.#asking.set(channel, asking);
    return asking;
  }

  async #read(channel: CommandChannel): Promise<void> {
    let offset: number | undefined;
    try {
      const reply = await channel.command(['TIME'], 'utf8');
      const [seconds, microseconds] = Array.isArray(reply) ? (reply as unknown[]) : [];
      const time = Math.floor(Number(seconds) * 1_000 + Number(microseconds) / 1_000);
      if (Number.isSafeInteger(time)) offset = time - monotonicNow();
    } catch (error) {
      if (!(error instanceof ReplyError)) throw error;
      this.#features.isMissing('TIME', error);
    }
    this.#readings.set(channel, { offset, at: monotonicNow() });
  }
}

/** The time of the server of a stream, by the {@link ServerClock}, for deadlines that two processes compare. */
export class RedisClockCommands implements ClockCommands {
  readonly #sender: CommandSender;
  readonly #clock: ServerClock;
  /** The offset that was last used: for the time between two connections. */
  #lastOffset: number | undefined;

  constructor(sender: CommandSender, clock: ServerClock) {
    this.#sender = sender;
    this.#clock = clock;
  }

  isCurrent(streamKey: string): boolean {
    const route = this.#sender.router.find(this.#sender.key(streamKey));
    return route === undefined || this.#clock.isCurrent(route.channel);
  }

  now(streamKey: string): number {
    return monotonicNow() + this.offset(streamKey);
  }

  offset(streamKey: string): number {
    const route = this.#sender.router.find(this.#sender.key(streamKey));
    const offset = route && this.#clock.offset(route.channel);
    if (offset !== undefined) this.#lastOffset = offset;
    return this.#lastOffset ?? Date.now() - monotonicNow();
  }

  async ask(streamKey: string): Promise<void> {
    const route = this.#sender.router.find(this.#sender.key(streamKey));
    // When the connection ends, the last known time has to do.
    if (route) await this.#clock.ask(route.channel).catch(() => undefined);
  }
}
