import { script } from './script.js';

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
