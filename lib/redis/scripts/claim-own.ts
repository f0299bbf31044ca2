import { script } from './script.js';

/*
 * Asks XPENDING whether an entry is still ours before it touches it. Without that, a process that was stopped for longer
 * than the claim idle time would take an entry back from the consumer that has claimed it since.
 */

/** ARGV: group, consumer, then id and new delivery count in turn. Returns for each id: nothing, an entry, or 0 when it was deleted. */
export const CLAIM_OWN = script(
  'claim-own',
  `local replies = {}
for i = 3, #ARGV, 2 do
  local id, reply = ARGV[i], {}
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
    reply = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'RETRYCOUNT', ARGV[i + 1])
    if not reply[1] then reply = 0 end
  end
  replies[#replies + 1] = reply
end
return replies`,
);
