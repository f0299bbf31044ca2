import { LAST_ID } from './entry-ids.js';
import { script } from './script.js';

/**
 * ARGV: ms without a sign of life after which a group counts for nothing ('' never); the age in ms below which entries are
 * kept though they are acknowledged ('' none); how many entries may go in this step ('' all, exactly); 'dry' to go through
 * that many entries without deleting, from the id that is the last argument.
 *
 * What is younger than the first of these times is kept even from a group that counts for nothing: before Redis 7.2 the
 * consumers of a quiet stream show no sign of life, and the next entry must not go before they have read it.
 *
 * Returns: how many entries went, the first id that stays ('' when no group is alive), the group because of which it does,
 * where a dry run continues ('' at its end), then the groups that count for nothing.
 *
 * All in one step, so that no group can be moved back between the look and the deletion. Where the server knows by itself
 * what every group has acknowledged (ACKED, Redis 8.2), entries behind one that is still pending go too. Before Redis 6.2
 * there is no MINID, and entries are deleted one by one.
 */
export const TRIM_ACKNOWLEDGED = script(
  'trim-acknowledged',
  `${LAST_ID}
local function lessNumber(a, b)
  if #a ~= #b then return #a < #b end
  return a < b
end
local function less(a, b)
  local ams, aseq = string.match(a, '^(%d+)-(%d+)$')
  local bms, bseq = string.match(b, '^(%d+)-(%d+)$')
  if ams ~= bms then return lessNumber(ams, bms) end
  return lessNumber(aseq, bseq)
end
local function behind(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  if #seq > 15 then return id end
  return ms .. '-' .. string.format('%.0f', tonumber(seq) + 1)
end
local function field(row, name)
  for i = 1, #row, 2 do if row[i] == name then return row[i + 1] end end
end
local now = 0
if ARGV[1] ~= '' or ARGV[2] ~= '' then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local function isDead(row)
  if ARGV[1] == '' then return false end
  local last = field(row, 'last-delivered-id')
  if last == '0-0' and field(row, 'consumers') == 0 then return false end
  local time = string.match(last, '^%d+')
  local silence = now - tonumber(#time < 16 and time or string.sub(time, 1, -7))
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], field(row, 'name'))) do
    silence = math.min(silence, field(consumer, 'idle'))
  end
  return silence > tonumber(ARGV[1])
end

local dead = {}
local delivered, deliveredBy, settled, settledBy
for _, row in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local name = field(row, 'name')
  if isDead(row) then
    dead[#dead + 1] = name
  else
    local first = behind(field(row, 'last-delivered-id'))
    if not delivered or less(first, delivered) then delivered, deliveredBy = first, name end
    local pending = redis.call('XPENDING', KEYS[1], name, '-', '+', 1)
    if pending[1] and less(pending[1][1], first) then first = pending[1][1] end
    if not settled or less(first, settled) then settled, settledBy = first, name end
  end
end
if not settled then return { 0, '', '', '', unpack(dead) } end
local inMilliseconds = #string.match(lastId(), '^%d+') < 16
local function since(age)
  return string.format('%.0f', math.max(0, now - tonumber(age))) .. (inMilliseconds and '-0' or '000000-0')
end
local keepFrom = ARGV[2] ~= '' and since(ARGV[2]) or ''
if #dead > 0 then
  local young = since(ARGV[1])
  if keepFrom == '' or less(young, keepFrom) then keepFrom = young end
end
local function kept(first, by)
  if keepFrom ~= '' and less(keepFrom, first) then return keepFrom, '' end
  return first, by
end

local first, by = kept(settled, settledBy)
if ARGV[4] == 'dry' then
  local gone = 0
  local entries = redis.call('XRANGE', KEYS[1], ARGV[5], '+', 'COUNT', ARGV[3])
  for _, entry in ipairs(entries) do
    if not less(entry[1], first) then return { gone, first, by, '', unpack(dead) } end
    gone = gone + 1
  end
  local go = #entries > 0 and behind(entries[#entries][1]) or ''
  return { gone, first, by, go, unpack(dead) }
end

local function trim(before, ...)
  if ARGV[3] == '' then return redis.pcall('XTRIM', KEYS[1], 'MINID', '=', before, ...) end
  return redis.pcall('XTRIM', KEYS[1], 'MINID', '~', before, 'LIMIT', ARGV[3], ...)
end
local gone
if #dead == 0 then gone = trim((kept(delivered, deliveredBy)), 'ACKED') end
if type(gone) ~= 'number' then gone = trim(first) end
if type(gone) ~= 'number' then
  gone = 0
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '-', first, 'COUNT', tonumber(ARGV[3]) or 1000)) do
    if not less(entry[1], first) then break end
    gone = gone + redis.call('XDEL', KEYS[1], entry[1])
  end
end
return { gone, first, by, '', unpack(dead) }`,
);
