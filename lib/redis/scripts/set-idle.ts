import { script } from './script.js';

/*
 * Asks XPENDING whether an entry is still ours before it touches it. Without that, a process that was stopped for longer
 * than the claim idle time would take an entry back from the consumer that has claimed it since.
 */

/** ARGV: group, consumer, idle, then id and delivery count in turn (-1 leaves it). */
export const SET_IDLE = script(
  'set-idle',
  `for i = 4, #ARGV, 2 do
  local id, count = ARGV[i], ARGV[i + 1]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
    if count == '-1' then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'JUSTID')
    else
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', ARGV[3], 'RETRYCOUNT', count, 'JUSTID')
    end
  end
end
return 1`,
);
