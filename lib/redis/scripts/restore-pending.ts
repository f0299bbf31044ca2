import { script } from './script.js';

/**
 * Puts entries back that are pending for no consumer, as after XGROUP DELCONSUMER or DESTROY. An entry that is pending for
 * another consumer is left alone: in one step, because that consumer may claim it at any moment.
 *
 * ARGV: group, consumer, then id and delivery count in turn. Returns the ids that were put back, and those that are not in
 * the stream any more.
 */
export const RESTORE_PENDING = script(
  'restore-pending',
  `local restored, gone = {}, {}
for i = 3, #ARGV, 2 do
  local id = ARGV[i]
  if #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) == 0 then
    if #redis.call('XRANGE', KEYS[1], id, id) > 0 then
      redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'IDLE', 0, 'RETRYCOUNT', ARGV[i + 1], 'FORCE', 'JUSTID')
      restored[#restored + 1] = id
    else
      gone[#gone + 1] = id
    end
  end
end
return {restored, gone}`,
);
