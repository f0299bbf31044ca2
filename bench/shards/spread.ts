import type { Move } from './consumer-setting.js';

/** Who owns which shard by the events of the consumers, and since when the shards are spread evenly. */
export class Spread {
  /** Milliseconds since 1970; undefined while one member owns two shards more than another, or a shard has no owner. */
  evenSince: number | undefined;
  /** The longest time, in milliseconds, from the end of one owner of a shard to the next one, of those that ended their ownership. */
  longestWithoutOwner = 0;
  readonly #shards: number;
  readonly #owned = new Map<string, Set<number>>();
  readonly #freeSince = new Map<number, number>();

  constructor(shards: number) {
    this.#shards = shards;
  }

  join(member: string): void {
    this.#owned.set(member, new Set());
    this.evenSince = undefined;
  }

  /** The member is to end, or to be killed: its shards are to be owned by others. */
  leave(member: string, at: number): void {
    this.#owned.delete(member);
    this.#look(at);
  }

  move(member: string, { change, shard, at }: Move): void {
    const owned = this.#owned.get(member);
    if (change === 'revoked') {
      owned?.delete(shard);
      // The events of two processes may come in the wrong order.
      const hasOwner = [...this.#owned.values()].some((shards) => shards.has(shard));
      if (!hasOwner) this.#freeSince.set(shard, at);
    } else {
      owned?.add(shard);
      this.longestWithoutOwner = Math.max(this.longestWithoutOwner, at - (this.#freeSince.get(shard) ?? at));
      this.#freeSince.delete(shard);
    }
    this.#look(at);
  }

  #look(at: number): void {
    if (this.#isEven()) this.evenSince ??= at;
    else this.evenSince = undefined;
  }

  #isEven(): boolean {
    const least = Math.floor(this.#shards / this.#owned.size);
    const counts = [...this.#owned.values()].map(({ size }) => size);
    const all = new Set([...this.#owned.values()].flatMap((shards) => [...shards]));
    return all.size === this.#shards && counts.every((count) => count === least || count === least + 1);
  }
}
