import { script } from './script.js';

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
