import { DEDUPLICATION } from './deduplication.js';
import { LAST_ID, NANOSECOND_IDS, NEXT_ID } from './entry-ids.js';
import { script } from './script.js';

/**
 * KEYS: the stream, the record of the id that the caller gave. ARGV: token, within, lifetime of the record, how many arguments
 * of XADD come before the id, these, the id, names and values. With an id that ends with `?` the server has no `<ms>-*`; one with
 * nanoseconds is as {@link NANOSECOND_IDS} takes it.
 */
export const APPEND_DEDUPLICATED = script(
  'append-deduplicated',
  `${LAST_ID}${NEXT_ID}${NANOSECOND_IDS}${DEDUPLICATION}
local token, within, lifetime = ARGV[1], ARGV[2], ARGV[3]
local first = firstOf(KEYS[2], token)
if first then return first end
local at = 5 + tonumber(ARGV[4])
local time = string.match(ARGV[at], '^(%d+)%?$')
local id, failure
if time then id = nextId(time) else id, failure = nanosecondId(ARGV[at]) end
if failure then return failure end
noted(KEYS[2], nil, token, within, lifetime)
local args = { 'XADD', KEYS[1] }
for i = 5, at - 1 do args[#args + 1] = ARGV[i] end
args[#args + 1] = id
for i = at + 1, #ARGV do args[#args + 1] = ARGV[i] end
local reply = redis.pcall(unpack(args))
if type(reply) == 'table' then
  noted(KEYS[2], nil, token, within, 1)
  return reply
end
noted(KEYS[2], reply, token, within, lifetime)
return reply`,
);
