import type { Receipt, StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
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
 * Counts the messages of a flooded stream that overtake a message of a quiet stream: those that were read after the
 * quiet message was appended, and handed out before it. Messages that were read before it was appended do not count.
 * The flooded stream has numbered messages.
 */
export class Overtaking {
  readonly #admin: RedisClient;
  readonly #ledger: Ledger;
  readonly #flooded: string;
  readonly #group: string;
  readonly #before = new Map<string, number>();
  /** Number of messages of the flooded stream that were handed out. */
  floodHandedOut = 0;

  constructor(admin: RedisClient, ledger: Ledger, flooded: string, group: string) {
    this.#admin = admin;
    this.#ledger = ledger;
    this.#flooded = flooded;
    this.#group = group;
  }

  handedOut(stream: string, payload: string): void {
    if (stream === this.#flooded) this.floodHandedOut += 1;
    else this.#before.set(payload, this.floodHandedOut);
  }

  /**
   * Sends messages to the quiet streams one after the other; returns the highest number of messages that overtook one
   * of them.
   */
  async maxOvertaken(quiet: readonly string[], count: number): Promise<number> {
    let most = 0;
    for (let n = 0; n < count; n += 1) {
      const payload = `quiet ${n}`;
      const given = await this.#send(quiet[n % quiet.length] as string, payload);
      await until(`'${payload}' is handed out`, () => this.#before.has(payload));
      most = Math.max(most, (this.#before.get(payload) as number) - given);
    }
    return most;
  }

  /**
   * Sends a message; resolves with the number of messages of the flooded stream that were delivered to the group at the
   * moment of the append.
   */
  async #send(quiet: string, payload: string): Promise<number> {
    const reply = this.#admin.eval(APPEND, 2, quiet, this.#flooded, payload, this.#group);
    const sending = reply as Promise<[id: string, given: string]>;
    const receipt = sending.then(([id]) => ({ id }) as Receipt);
    await this.#ledger.sent(payload, receipt);
    return Number.parseInt((await sending)[1], 10);
  }
}

/**
 * Sends twenty messages one after the other; returns the highest number of other handlings that started while one of
 * them waited.
 */
export async function maxStarted(
  { producer, ledger }: { readonly producer: StreamProducer; readonly ledger: Ledger },
  quiet: string,
  begun: () => number,
  /** For each quiet message, the number of other handlings that had started when it was handed out. */
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
