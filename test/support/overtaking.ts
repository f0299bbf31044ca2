import type { Redis } from 'ioredis';

import type { Receipt, StreamProducer } from '../../lib/index.js';
import type { Ledger } from './ledger.js';
import { until } from './until.js';

const APPEND = `
local id = redis.call('XADD', KEYS[1], '*', 'msg', ARGV[1])
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[2])) do
  local fields = {}
  for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
  if fields.name == ARGV[2] then return { id, fields['last-delivered-id'] } end
end`;

/**
 * How many messages of a flooded stream overtake those of quiet ones: were read after such a one had come, and handed out
 * before it. What had been read before it came is not unfair. The flood is one of numbered messages.
 */
export class Overtaking {
  readonly #admin: Redis;
  readonly #ledger: Ledger;
  readonly #flooded: string;
  readonly #group: string;
  readonly #before = new Map<string, number>();
  /** Messages of the flood that were handed out. */
  ofFlood = 0;

  constructor(admin: Redis, ledger: Ledger, flooded: string, group: string) {
    this.#admin = admin;
    this.#ledger = ledger;
    this.#flooded = flooded;
    this.#group = group;
  }

  handedOut(stream: string, payload: string): void {
    if (stream === this.#flooded) this.ofFlood += 1;
    else this.#before.set(payload, this.ofFlood);
  }

  /** Sends messages to the quiet streams, one after the other; returns by how many one of them was overtaken, at most. */
  async most(quiet: readonly string[], count: number): Promise<number> {
    let most = 0;
    for (let n = 0; n < count; n += 1) {
      const payload = `quiet ${n}`;
      const given = await this.#send(quiet[n % quiet.length] as string, payload);
      await until(`'${payload}' is handed out`, () => this.#before.has(payload));
      most = Math.max(most, (this.#before.get(payload) as number) - given);
    }
    return most;
  }

  /** Resolves with how many of the flood the group had been given at the very moment at which the message came. */
  async #send(quiet: string, payload: string): Promise<number> {
    const reply = this.#admin.eval(APPEND, 2, quiet, this.#flooded, payload, this.#group);
    const sending = reply as Promise<[id: string, given: string]>;
    const receipt = sending.then(([id]) => ({ id }) as Receipt);
    await this.#ledger.sent(payload, receipt);
    return Number.parseInt((await sending)[1], 10);
  }
}

/** Sends twenty messages, one after the other; returns how much else was begun while one of them waited, at most. */
export async function mostBegun(
  { producer, ledger }: { readonly producer: StreamProducer; readonly ledger: Ledger },
  quiet: string,
  begun: () => number,
  /** For each of them, how much had been begun when it was handed out. */
  before: readonly number[],
): Promise<number> {
  let most = 0;
  for (let n = 0; n < 20; n += 1) {
    const atSend = begun();
    await ledger.sent(`quiet ${n}`, producer.sendTo(quiet, `quiet ${n}`));
    await until(`'quiet ${n}' is handed out`, () => before.length > n, 30_000);
    most = Math.max(most, (before[n] as number) - atSend);
  }
  return most;
}
