import { script } from './script.js';

/*
 * Each script asks XPENDING whether an entry is still ours before it touches it. Without that, a process that was stopped
 * for longer than the claim idle would take an entry back from whoever has claimed it meanwhile.
 */

/** ARGV: group, consumer, ids. Returns the ids whose idle time was reset. */
export const KEEP_ALIVE = script(
  'keep-alive',
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

/** ARGV: group, consumer. Removes the consumer unless entries are pending for it; returns how many are. */
export const REMOVE_CONSUMER = script(
  'remove-consumer',
  `local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2])
if #pending == 0 then
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
  return 0
end
for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if row[2] == ARGV[2] then return row[4] end
end
return 1`,
);

/** ARGV: group, consumer, ms. Removes the consumer if nothing is pending for it and it has been idle for as long; returns whether it did. */
export const REMOVE_IDLE_CONSUMER = script(
  'remove-idle-consumer',
  `for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if row[2] == ARGV[2] and row[4] == 0 and row[6] >= tonumber(ARGV[3]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
    return 1
  end
end
return 0`,
);
