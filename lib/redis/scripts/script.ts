import { createHash } from 'node:crypto';

/** A Lua script with the digest by which EVALSHA names it. */
export interface Script {
  readonly name: string;
  readonly source: string;
  readonly sha: string;
}

export function script(name: string, source: string): Script {
  return Object.freeze({ name, source, sha: createHash('sha1').update(source).digest('hex') });
}

/** Lua: `now`, the time of the server in milliseconds, and `whole()`, which writes a large number without an exponent. */
export const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end`;
