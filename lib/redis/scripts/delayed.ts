import { DEDUPLICATION } from './deduplication.js';
import { HAS_MILLISECONDS, LAST_ID, NANOSECOND_IDS } from './entry-ids.js';
import { script } from './script.js';
import { IS_CLOSED, LAST_POSSIBLE_ID } from './shard-layouts.js';

/*
 * Delayed messages of one stream or shard, in three keys beside it:
 *
 * - `delayed`, a sorted set: the token of each message that waits, by the time at which it is due, in milliseconds
 * - `waiting`, a hash: its content by its token. It is a MessagePack array: until when its send may be repeated, the key of its
 *   deduplication record or '', the kind and the value of its trim limit or '', the format of its time, 'ms' or 'ns', names and
 *   values
 * - `moved`, a sorted set: tokens that wait no longer while their send may be repeated, by the end of that time
 *
 * Tokens sort in the order of their sends, so that messages that are due at the same time are moved in that order. The id of a
 * delayed message is `<token>@<due>`.
 */

const NOW = `
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function whole(number) return string.format('%.0f', number) end`;

/** `expireAt(key, time)` has `moved` expire with the last of its tokens, for no step may come that removes them. */
const EXPIRY = `
local function expireAt(key, time)
  local left = redis.pcall('PTTL', key)
  if type(left) == 'number' and left < time - now then redis.pcall('PEXPIRE', key, whole(time - now)) end
end`;

/**
 * KEYS: the stream, `delayed`, `waiting`, `moved`, and with a deduplication id its record. ARGV: token, 'in' or 'at', the delay or
 * the time, for how long the send may be repeated, within, lifetime of the record, kind and value of the trim limit, format of
 * the time, names and values. Returns the id. A repetition finds the message where it is.
 *
 * Nothing is scheduled beside a shard that is closed. A stream that does not exist is created, without an entry: consumers find shards
 * by their streams, and move what waits for those that they have found. Where that is not permitted, it is left to the first append.
 */
export const SCHEDULE = script(
  'schedule',
  `${NOW}${LAST_ID}${NANOSECOND_IDS}${DEDUPLICATION}
local token, record = ARGV[1], KEYS[5]
local first = record and firstOf(record, token)
if first then return first end
local function idOf(due) return token .. '@' .. whole(due) end
local due = redis.call('ZSCORE', KEYS[2], token)
if due then return idOf(due) end
local forgotten = redis.call('ZSCORE', KEYS[4], token)
if forgotten then return idOf(ARGV[2] == 'at' and ARGV[3] or forgotten - ARGV[4] + ARGV[3]) end
if lastId() == '${LAST_POSSIBLE_ID}' then return redis.error_reply('${IS_CLOSED}') end
if ARGV[9] == 'ns' then
  local isOther, failure = hasMilliseconds()
  if isOther then failure = redis.error_reply('${HAS_MILLISECONDS}') end
  if failure then return failure end
end
due = ARGV[2] == 'at' and ARGV[3] or now + ARGV[3]
local content = { whole(now + ARGV[4]), record or '' }
for i = 7, #ARGV do content[#content + 1] = ARGV[i] end
if record then noted(record, nil, token, ARGV[5], ARGV[6]) end
redis.call('ZADD', KEYS[2], due, token)
local stored = redis.pcall('HSET', KEYS[3], token, cmsgpack.pack(content))
if type(stored) == 'table' then
  redis.call('ZREM', KEYS[2], token)
  return stored
end
if record then noted(record, idOf(due), token, ARGV[5], ARGV[6]) end
if redis.pcall('EXISTS', KEYS[1]) == 0 then
  redis.pcall('XADD', KEYS[1], 'MAXLEN', 0, '0-1', '', '')
end
return idOf(due)`,
);

/**
 * KEYS: the stream, `delayed`, `waiting`, `moved`. ARGV: how many messages, and how many bytes, at most; one in any case.
 *
 * Appends those that are due, in that order, and returns: how many, the milliseconds until the next one (-1: none waits), how
 * many had lost their content, and the error that stopped it. The commands that follow an append are tried with an empty
 * token first: where one is not permitted, nothing is appended, because a message that is appended and stays in `delayed` would
 * be appended again.
 */
export const MOVE_DUE = script(
  'move-due',
  `${NOW}${EXPIRY}${LAST_ID}${NANOSECOND_IDS}
local present = '~' .. time[1] .. string.format('%06d', time[2]) .. '000'
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', '(' .. whole(now))
local moved, lost, size, last, failure = 0, 0, 0, 0, nil
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', whole(now), 'LIMIT', 0, ARGV[1])
if #due > 0 then
  redis.call('ZREM', KEYS[2], '')
  redis.call('HDEL', KEYS[3], '')
  redis.call('ZADD', KEYS[4], 'XX', 0, '')
end
for _, token in ipairs(due) do
  local packed = redis.call('HGET', KEYS[3], token)
  local isRead, content = pcall(cmsgpack.unpack, packed or '')
  if packed and isRead and type(content) == 'table' then
    local args = { 'XADD', KEYS[1] }
    if content[3] == 'MAXLEN' then
      args = { 'XADD', KEYS[1], 'MAXLEN', '~', content[4] }
    end
    local id, reply = '*', nil
    if content[5] == 'ns' then id, reply = nanosecondId(present) end
    args[#args + 1] = id
    for i = 6, #content do args[#args + 1] = content[i] end
    reply = reply or redis.pcall(unpack(args))
    if type(reply) == 'table' then
      failure = reply
      break
    end
    appended(reply)
    -- On its own: before Redis 6.2 there is no MINID, and the message must not wait for that.
    if content[3] == 'MINID' then
      local from = whole(math.max(0, now - content[4]))
      redis.pcall('XTRIM', KEYS[1], 'MINID', '~', hasMilliseconds() and from or from .. '000000')
    end
    moved = moved + 1
    if tonumber(content[1]) > now then
      redis.call('ZADD', KEYS[4], content[1], token)
      last = math.max(last, tonumber(content[1]))
    end
  else
    lost = lost + 1
  end
  redis.call('ZREM', KEYS[2], token)
  redis.call('HDEL', KEYS[3], token)
  size = size + #(packed or '')
  if size >= tonumber(ARGV[2]) then break end
end
if last > 0 then expireAt(KEYS[4], last) end
local next = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')[2]
local wait = next and math.max(0, next - now) or -1
return { moved, wait, lost, failure or false }`,
);

/**
 * KEYS: `delayed`, `waiting`, `moved`. ARGV: token. Returns 1 when the message waited. Its deduplication id is free again: its
 * record would swallow the message that is scheduled in its place. That record is in the slot of the keys.
 */
export const CANCEL_DELAYED = script(
  'cancel-delayed',
  `${NOW}${EXPIRY}
local token = ARGV[1]
local packed = redis.call('HGET', KEYS[2], token)
if redis.call('ZREM', KEYS[1], token) == 0 then return 0 end
redis.call('HDEL', KEYS[2], token)
local isRead, content = pcall(cmsgpack.unpack, packed or '')
if not packed or not isRead or type(content) ~= 'table' then return 1 end
if tonumber(content[1]) > now then
  redis.call('ZADD', KEYS[3], content[1], token)
  expireAt(KEYS[3], tonumber(content[1]))
end
local record = content[2]
if record == '' then return 1 end
local first = string.match(redis.call('GET', record) or '', '^%S+ (%S+) ')
if first == token then redis.call('SET', record, '', 'PX', 1) end
return 1`,
);

/**
 * KEYS: `delayed`, `waiting`. ARGV: how many, and the token and time after which to continue, or ''. Returns for each message:
 * token, time, names and values.
 */
export const LIST_DELAYED = script(
  'list-delayed',
  `
-- By bytes, as in a sorted set: the operators of Lua heed the locale of the server.
local function isBefore(one, other)
  for i = 1, math.min(#one, #other) do
    local a, b = one:byte(i), other:byte(i)
    if a ~= b then return a < b end
  end
  return #one < #other
end
-- The place behind a message that waits no longer: among those of its time, behind the tokens that sort before its own.
local function placeBehind(token, due)
  local from, to = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. due), redis.call('ZCOUNT', KEYS[1], '-inf', due)
  while from < to do
    local middle = math.floor((from + to) / 2)
    if isBefore(redis.call('ZRANGE', KEYS[1], middle, middle)[1], token) then from = middle + 1 else to = middle end
  end
  return from
end
local from = 0
if ARGV[2] ~= '' then
  local rank = redis.call('ZRANK', KEYS[1], ARGV[2])
  from = rank and rank + 1 or placeBehind(ARGV[2], ARGV[3])
end
local found = redis.call('ZRANGE', KEYS[1], from, from + ARGV[1] - 1, 'WITHSCORES')
local replies = {}
for i = 1, #found, 2 do
  local packed = redis.call('HGET', KEYS[2], found[i])
  local isRead, content = pcall(cmsgpack.unpack, packed or '')
  if packed and isRead and type(content) == 'table' then
    local reply = { found[i], found[i + 1] }
    for j = 6, #content do reply[#reply + 1] = content[j] end
    replies[#replies + 1] = reply
  end
end
return replies`,
);
