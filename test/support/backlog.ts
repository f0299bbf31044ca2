import type { RedisClient } from '../../lib/redis/connection/connection-target.js';

const PER_CALL = 10_000;
const FILL = `
local first = tonumber(ARGV[1])
for n = first, first + tonumber(ARGV[2]) - 1 do
  redis.call('XADD', KEYS[1], '*', 'msg', string.format('{"n":%10d,"pad":"', n) .. ARGV[3])
end`;
const BYTES_BEFORE_PAD = 23;
const BEGINNINGS = `
local beginnings = {}
for i, entry in ipairs(redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 1000)) do
  beginnings[i] = { entry[1], string.sub(entry[2][2], 1, tonumber(ARGV[2])) }
end
return beginnings`;

/**
 * Fills a stream with `count` JSON payloads of `size` bytes each, whose `n` counts from 0; a script on the server
 * appends them.
 */
export async function fillBacklog(redis: RedisClient, stream: string, count: number, size: number): Promise<void> {
  const pad = `${'.'.repeat(size - BYTES_BEFORE_PAD - 2)}"}`;
  for (let first = 0; first < count; first += PER_CALL) {
    await redis.eval(FILL, 1, stream, first, Math.min(PER_CALL, count - first), pad);
  }
}

/** Reads only the first bytes of each payload, because all bytes of all payloads may be too many. */
export async function beginningsOf(redis: RedisClient, stream: string, bytes: number): Promise<string[]> {
  const beginnings: string[] = [];
  for (let from = '-'; ;) {
    const page = (await redis.eval(BEGINNINGS, 1, stream, from, bytes)) as Array<[id: string, beginning: string]>;
    const last = page.at(-1);
    if (!last) return beginnings;
    for (const [, beginning] of page) beginnings.push(beginning);
    from = `(${last[0]}`;
  }
}
