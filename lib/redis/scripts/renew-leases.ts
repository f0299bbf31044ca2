import { script } from './script.js';

/*
 * Asks XPENDING whether an entry is still ours before it touches it. Without that, a process that was stopped for longer
 * than the claim idle time would take an entry back from the consumer that has claimed it since.
 */

/** ARGV: group, consumer, ids. Returns the ids whose idle time was reset. */
export const RENEW_LEASES = script(
  'renew-leases',
  `local kept = {}
for i = 3, #ARGV do
  local id = ARGV[i]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1, ARGV[2]) > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', 0, 'JUSTID')
    kept[#kept + 1] = id
  end
end
return kept`,
);
