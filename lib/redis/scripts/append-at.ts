import { LAST_ID, NEXT_ID } from './entry-ids.js';
import { script } from './script.js';

/** ARGV: milliseconds, how many arguments of XADD come before the id, these, names and values. */
export const APPEND_AT = script(
  'append-at',
  `${LAST_ID}${NEXT_ID}
local args = { 'XADD', KEYS[1] }
local before = 2 + tonumber(ARGV[2])
for i = 3, before do args[#args + 1] = ARGV[i] end
args[#args + 1] = nextId(ARGV[1])
for i = before + 1, #ARGV do args[#args + 1] = ARGV[i] end
return redis.pcall(unpack(args))`,
);
