import type { StreamProducer } from '../../lib/index.js';
import type { RedisClient } from '../../lib/redis/connection/connection-target.js';
import type { Ledger } from './ledger.js';

const PER_TURN = 200;

/**
 * Sends message number `n`, counted from 1, of a stream. Its id is `n-0`, so the position of a group equals the number
 * of messages delivered to it.
 */
export async function sendNumbered(
  producer: StreamProducer,
  ledgers: Ledger[],
  stream: string,
  n: number,
): Promise<void> {
  const payload = `${stream} ${n}`;
  const result = producer.sendTo(stream, payload, { timestamp: new Date(n) });
  await Promise.all(ledgers.map((ledger) => ledger.sent(payload, result)));
}

/** Sends the messages 1 to `count` of a stream as fast as possible. */
export async function flood(producer: StreamProducer, ledger: Ledger, stream: string, count: number): Promise<void> {
  const sends: Array<Promise<void>> = [];
  for (let n = 1; n <= count; n += 1) {
    sends.push(sendNumbered(producer, [ledger], stream, n));
    if (n % PER_TURN === 0) await new Promise(setImmediate);
  }
  await Promise.all(sends);
}

/** The number of numbered messages delivered to a group, of all the streams together. */
export async function deliveredCount(admin: RedisClient, group: string, streams: readonly string[]): Promise<number> {
  let given = 0;
  for (const stream of streams) {
    const rows = (await admin.xinfo('GROUPS', stream)) as Array<Array<string | number>>;
    const row = rows.find((fields) => fields[1] === group) ?? [];
    given += Number.parseInt(String(row[row.indexOf('last-delivered-id') + 1]), 10);
  }
  return given;
}
