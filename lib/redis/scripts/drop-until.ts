import { script } from './script.js';

/** ARGV: the last id that goes, how many entries at most. Returns how many went; the way of MINID for Redis 6.0. */
export const DROP_UNTIL = script(
  'drop-until',
  `local old = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', ARGV[2])
for _, entry in ipairs(old) do redis.call('XDEL', KEYS[1], entry[1]) end
return #old`,
);
