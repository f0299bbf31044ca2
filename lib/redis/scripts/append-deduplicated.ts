import { NEXT_ID } from './append-at.js';
import { script } from './script.js';

/**
 * KEYS: the stream, the record of the id that the caller gave. ARGV: token, within, lifetime of the record, how many arguments
 * of XADD come before the id, these, the id, names and values. With an id that ends with `?` the server has no `<ms>-*`.
 *
 * The record is `<reply> <token> <within> <lifetime>`. It outlives `within` where the same send may be repeated for longer: its
 * token finds it then, and another send does not. It is written before the entry too, so that a refusal stops both.
 */
export const APPEND_DEDUPLICATED = script(
  'append-deduplicated',
  `${NEXT_ID}
local known = redis.call('GET', KEYS[2]) or ''
local first, token, within, lifetime = string.match(known, '^(%S+) (%S+) (%d+) (%d+)$')
if first then
  local age = tonumber(lifetime) - redis.call('PTTL', KEYS[2])
  if token == ARGV[1] or age < tonumber(within) then return first end
end
redis.call('SET', KEYS[2], '', 'PX', ARGV[3])
local args = { 'XADD', KEYS[1] }
local at = 5 + tonumber(ARGV[4])
for i = 5, at - 1 do args[#args + 1] = ARGV[i] end
local time = string.match(ARGV[at], '^(%d+)%?$')
args[#args + 1] = time and nextId(time) or ARGV[at]
for i = at + 1, #ARGV do args[#args + 1] = ARGV[i] end
local reply = redis.pcall(unpack(args))
if type(reply) == 'table' then
  redis.call('SET', KEYS[2], '', 'PX', 1)
  return reply
end
redis.call('SET', KEYS[2], reply .. ' ' .. ARGV[1] .. ' ' .. ARGV[2] .. ' ' .. ARGV[3], 'PX', ARGV[3])
return reply`,
);
