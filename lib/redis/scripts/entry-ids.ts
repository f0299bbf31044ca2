/** `lastId()` returns the last id of the stream, `0-0` if it does not exist. If Redis refuses, it returns `0-0` and the error. */
export const LAST_ID = `
local function lastId()
  local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
  local isMissing = not info.err or string.find(string.lower(info.err), 'no such key', 1, true)
  return '0-0', not isMissing and info or nil
end`;

/** `nextId(ms)` picks the id that `<ms>-*` would be, for a server that does not have it. Needs {@link LAST_ID}. */
export const NEXT_ID = `
local function nextId(time)
  local ms, counter = string.match(lastId(), '^(%d+)-(%d+)$')
  if ms ~= time then return time .. '-0' end
  return ms .. '-' .. string.format('%.0f', tonumber(counter) + 1)
end`;

/** Refuses an entry with nanoseconds in a stream whose ids have milliseconds. */
export const HAS_MILLISECONDS = 'ERR the ids of the stream have milliseconds';

/**
 * `nanosecondId(asked)` is the id for XADD where a stream has nanoseconds:
 *
 * - `>1700000000123456789`, the present time: that time, or the nanosecond after the last id if the last id is not earlier
 * - `=1700000000123456789-*`, a time that the caller gave: exactly that time
 * - `~1700000000123456789`, the present time for an entry that must not be lost: as for `>`, but `*` where ids have milliseconds
 *
 * If the ids of the stream have milliseconds, or its last id cannot be read, it returns nil and an error reply.
 * `hasMilliseconds()` returns whether they have, or nil and the error. Call `appended(id)` with the id of each new entry.
 *
 * Needs {@link LAST_ID}. Times are text: a number of Lua has 53 bits. One of up to 15 digits has milliseconds, 0 either.
 */
export const NANOSECOND_IDS = `
local lastTime
local function appended(id) lastTime = string.match(id, '^%d+') end
local function hasMilliseconds()
  if not lastTime then
    local id, failure = lastId()
    if failure then return nil, failure end
    appended(id)
  end
  return lastTime ~= '0' and #lastTime < 16
end
local function nanosecondAfter(time)
  if time == '18446744073709551615' then return time end
  local high, low = string.sub(time, 1, -10), tonumber(string.sub(time, -9)) + 1
  if low == 1e9 then high, low = string.format('%.0f', tonumber(high) + 1), 0 end
  return high .. string.format('%09d', low)
end
local function nanosecondId(asked)
  local kind, time = string.match(asked, '^([>=~])(.*)$')
  if not kind then return asked end
  local isOther, failure = hasMilliseconds()
  if failure then return nil, failure end
  if isOther and kind == '~' then return '*' end
  if isOther then return nil, redis.error_reply('${HAS_MILLISECONDS}') end
  if kind == '=' then return time end
  local isOver = #lastTime > #time or #lastTime == #time and lastTime >= time
  return (isOver and nanosecondAfter(lastTime) or time) .. '-*'
end`;
