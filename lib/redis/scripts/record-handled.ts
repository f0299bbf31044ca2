import { script } from './script.js';

/**
 * ARGV: token, ms, then each command as the number of its words and these. Returns 1 when this call, or an earlier one with
 * the same token whose reply was lost, has made the record; 0 when another call has.
 */
export const RECORD_HANDLED = script(
  'record-handled',
  `local recorded = redis.call('GET', KEYS[1])
if recorded then return recorded == ARGV[1] and 1 or 0 end
local at = 3
while at <= #ARGV do
  local size = tonumber(ARGV[at])
  redis.call(unpack(ARGV, at + 1, at + size))
  at = at + 1 + size
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1`,
);
