import { setTimeout as pause } from 'node:timers/promises';

import { ConsumerProcess } from './consumer-process.js';
import type { ConsumerReport, ConsumerSetting } from './consumer-setting.js';
import { now } from './consumer-setting.js';
import { Spread } from './spread.js';

/** For so many milliseconds the shards must stay spread evenly: longer than two rounds of a member that lacks some. */
const QUIET = 2_500;
/** Until the shards are spread evenly, in milliseconds. */
const LIMIT = 90_000;
const LOOK = 20;

/** Consumer processes of one group. */
export class Fleet {
  readonly spread: Spread;
  readonly #setting: ConsumerSetting;
  readonly #members = new Map<string, ConsumerProcess>();
  #started = 0;

  constructor(setting: ConsumerSetting) {
    this.#setting = setting;
    this.spread = new Spread(setting.shards);
  }

  /** Starts processes, and opens their consumers at the same time. Returns when that was, in milliseconds since 1970. */
  async open(count: number): Promise<number> {
    const starts = Array.from({ length: count }, async () => {
      this.#started += 1;
      const name = `consumer-${this.#started}`;
      return [name, await ConsumerProcess.start(this.#setting, (move) => this.spread.move(name, move))] as const;
    });
    const started = await Promise.all(starts);
    const at = now();
    for (const [name, member] of started) {
      this.#members.set(name, member);
      this.spread.join(name);
    }
    await Promise.all(started.map(([, member]) => member.open()));
    return at;
  }

  /** Returns when the shards were spread evenly for good, in milliseconds since 1970. */
  async untilEven(): Promise<number> {
    for (const until = now() + LIMIT; now() < until; await pause(LOOK)) {
      const { evenSince } = this.spread;
      if (evenSince !== undefined && now() - evenSince > QUIET) return evenSince;
    }
    throw new Error(`the shards were not spread evenly after ${LIMIT / 1_000} s`);
  }

  /** Ends one consumer. Returns when that began. */
  async endOne(): Promise<number> {
    return this.#without((member) => member.end());
  }

  async killOne(): Promise<number> {
    return this.#without((member) => member.kill());
  }

  /** Lets messages wait until {@link resume}. */
  async hold(): Promise<void> {
    await this.#all((member) => member.hold());
  }

  async resume(): Promise<void> {
    await this.#all((member) => member.resume());
  }

  async reset(): Promise<void> {
    await this.#all((member) => member.reset());
  }

  reports(): Promise<ConsumerReport[]> {
    return this.#all((member) => member.report());
  }

  async end(): Promise<void> {
    await this.#all((member) => member.end());
    this.#members.clear();
  }

  #all<T>(ask: (member: ConsumerProcess) => Promise<T>): Promise<T[]> {
    return Promise.all([...this.#members.values()].map(ask));
  }

  async #without(end: (member: ConsumerProcess) => Promise<void>): Promise<number> {
    const [[name, member]] = this.#members as unknown as [[string, ConsumerProcess]];
    const at = now();
    this.#members.delete(name);
    this.spread.leave(name, at);
    await end(member);
    return at;
  }
}
